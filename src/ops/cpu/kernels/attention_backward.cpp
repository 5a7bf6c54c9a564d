#include "fairway/ops/attention.h"

#include "attention_operands.h"
#include "cpu/partial.h"
#include "kernels.h"
#include "softmax_block.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

/// Everything the items of one call share. An item is (row of the batch, query head, split of keys): it alone
/// adds to its part of the partial gradients, query blocks in order; a second pass sums the parts in order.
/// All five products take operands of type E (see attention.cpp).
template <class T, class E>
struct Backward {
  const KernelArgs& a;
  const HeadShape h;
  const AttentionTiling tiling;
  const BackwardLayout layout;
  const RoundedLayout room;
  const T *o, *lse, *d_o;
  const std::int32_t* segment;
  const Out<T> dq, dk, dv;
  T* workspace;
  const T scale;
  const Heads<E> q, k, v, gradient;

  explicit Backward(const KernelArgs& args)
      : a(args),
        h(static_cast<const AttentionBackward&>(args.op).shape),
        tiling(tile_attention_backward(h, args.in[0].shape(), args.in[1].shape()[1])),
        layout(layout_backward(h, tiling)),
        room(layout_rounded(h, tiling, layout.end)),
        o(in<T>(args, 4)),
        lse(in<T>(args, 5)),
        d_o(in<T>(args, 6)),
        segment(in<std::int32_t>(args, 3)),
        dq(out<T>(args, 0)),
        dk(out<T>(args, 1)),
        dv(out<T>(args, 2)),
        workspace(static_cast<T*>(args.workspace.data)),
        scale(T(1) / static_cast<T>(__builtin_sqrt(static_cast<T>(h.head_dim)))),
        q(operand<E>(args, in<T>(args, 0), args.in[0].shape(), rounded_at(room.q))),
        k(operand<E>(args, in<T>(args, 1), args.in[1].shape(), rounded_at(room.k))),
        v(operand<E>(args, in<T>(args, 2), args.in[1].shape(), rounded_at(room.v))),
        gradient(operand<E>(args, d_o, args.in[0].shape(), rounded_at(room.d_o))) {}

  E* rounded_at(std::int64_t offset) const { return reinterpret_cast<E*>(workspace + offset); }

  std::int64_t dh() const { return h.head_dim; }
  std::int64_t group() const { return h.heads / h.kv_heads; }
  std::int64_t query_at(std::int64_t b, std::int64_t i, std::int64_t head) const {
    return ((b * tiling.queries + i) * h.heads + head) * dh();
  }
  std::int64_t key_at(std::int64_t b, std::int64_t position, std::int64_t kv_head) const {
    return ((b * tiling.positions + position) * h.kv_heads + kv_head) * dh();
  }
  /// Partial gradients of one query head.
  T* partial_dq(std::int64_t split, std::int64_t bh) const {
    return workspace + layout.dq + (split * tiling.batch * h.heads + bh) * tiling.queries * dh();
  }
  T* partial_dk(std::int64_t bh) const { return workspace + layout.dk + bh * tiling.positions * dh(); }
  T* partial_dv(std::int64_t bh) const { return workspace + layout.dv + bh * tiling.positions * dh(); }
  T* delta(std::int64_t bh) const { return workspace + layout.delta + bh * tiling.queries; }

  std::int64_t position(std::int64_t i) const { return tiling.positions - tiling.queries + i; }
  std::int64_t first_key(std::int64_t b, std::int64_t i) const {
    return segment ? segment[b * tiling.positions + position(i)] : 0;
  }

  void deltas() const;
  void item(std::int64_t b, std::int64_t head, std::int64_t split, T* scratch) const;
  void block(std::int64_t b, std::int64_t head, std::int64_t split, std::int64_t first, std::int64_t rows,
             std::int64_t key, std::int64_t keys, T* scratch) const;
  void rebuild(std::int64_t b, std::int64_t bh, std::int64_t first, std::int64_t rows, std::int64_t key,
               std::int64_t keys, T* p, T* ds) const;
  void sum_queries() const;
  void sum_keys() const;
};

/// delta = rowsum(do . o), with do as the products see it: then do v^T - delta vanishes, as it should, in
/// rows that see one key.
template <class T, class E>
void Backward<T, E>::deltas() const {
  parallel_ranges(a, tiling.batch * tiling.queries, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t head = 0; head < h.heads; ++head) {
        const std::int64_t b = row / tiling.queries, i = row % tiling.queries, at = query_at(b, i, head);
        delta(b * h.heads + head)[i] = dot_seen<E>(o + at, d_o + at, dh());
      }
  });
}

/// p = exp(scale p - lse), ds = scale p . (ds - delta); what a row does not see becomes zero in both.
template <class T, class E>
void Backward<T, E>::rebuild(std::int64_t b, std::int64_t bh, std::int64_t first, std::int64_t rows,
                             std::int64_t key, std::int64_t keys, T* p, T* ds) const {
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t i = first + r, lo = first_key(b, i) - key, hi = position(i) + 1 - key;
    const VisibleSpan s = visible_span<T>(lo > 0 ? lo : 0, smaller(hi, keys));
    T *p_row = p + r * tiling.key_rows, *ds_row = ds ? ds + r * tiling.key_rows : nullptr;
    zero_outside(p_row, s, keys);
    if (ds) zero_outside(ds_row, s, keys);
    if (s.to == s.from) continue;
    fill_edges(p_row, s, static_cast<T>(-__builtin_inff()));
    if (ds) fill_edges(ds_row, s, T(0));
    rebuild_row(p_row, ds_row, s, scale, lse[bh * tiling.queries + i], delta(bh)[i]);
  }
}

/// Queries [first, first + rows) against keys [key, key + keys).
template <class T, class E>
void Backward<T, E>::block(std::int64_t b, std::int64_t head, std::int64_t split, std::int64_t first,
                           std::int64_t rows, std::int64_t key, std::int64_t keys, T* scratch) const {
  const std::int64_t bh = b * h.heads + head, ld = tiling.key_rows;
  const std::int64_t kv_head = head / group(), operand_ld = operand_stride<E, T>(ld);
  const E *queries = q.at(b, first, head), *gradients = gradient.at(b, first, head);
  const E *key_rows = k.at(b, key, kv_head), *value_rows = v.at(b, key, kv_head);
  const bool need_ds = dq || dk;
  T *p = scratch, *ds = need_ds ? scratch + tiling.query_rows * ld : nullptr;
  multiply({false, true, rows, keys, dh(), q.row_stride, k.row_stride, ld}, queries, key_rows, false, p);
  if (ds)
    multiply({false, true, rows, keys, dh(), gradient.row_stride, v.row_stride, ld}, gradients, value_rows,
             false, ds);
  rebuild(b, bh, first, rows, key, keys, p, ds);
  if (dv)
    multiply({true, false, keys, dh(), rows, operand_ld, gradient.row_stride, dh()},
             score_operand<E>(p, rows, keys, ld), gradients, true, partial_dv(bh) + key * dh());
  if (!ds) return;
  const E* ds_operand = score_operand<E>(ds, rows, keys, ld);
  if (dk)
    multiply({true, false, keys, dh(), rows, operand_ld, q.row_stride, dh()}, ds_operand, queries, true,
             partial_dk(bh) + key * dh());
  if (dq)
    multiply({false, false, rows, dh(), keys, operand_ld, k.row_stride, dh()}, ds_operand, key_rows, true,
             partial_dq(split, bh) + first * dh());
}

template <class T, class E>
void Backward<T, E>::item(std::int64_t b, std::int64_t head, std::int64_t split, T* scratch) const {
  const std::int64_t bh = b * h.heads + head, begin = split * tiling.rows_per_split;
  const std::int64_t end = smaller(begin + tiling.rows_per_split, tiling.positions);
  if (dk) fill_zero(partial_dk(bh) + begin * dh(), (end - begin) * dh());
  if (dv) fill_zero(partial_dv(bh) + begin * dh(), (end - begin) * dh());
  for (std::int64_t first = 0; first < tiling.queries; first += tiling.query_rows) {
    const std::int64_t rows = smaller(tiling.query_rows, tiling.queries - first);
    if (dq) fill_zero(partial_dq(split, bh) + first * dh(), rows * dh());
    const std::int64_t visible_end = smaller(end, position(first + rows - 1) + 1);
    std::int64_t visible_begin = first_key(b, first);
    for (std::int64_t r = 1; segment && r < rows; ++r)
      visible_begin = smaller(visible_begin, first_key(b, first + r));
    for (std::int64_t key = begin; key < visible_end; key += tiling.key_rows) {
      const std::int64_t keys = smaller(tiling.key_rows, visible_end - key);
      if (key + keys > visible_begin) block(b, head, split, first, rows, key, keys, scratch);
    }
  }
}

/// dq = sum over splits, in order.
template <class T, class E>
void Backward<T, E>::sum_queries() const {
  parallel_ranges(a, tiling.batch * tiling.queries, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t head = 0; head < h.heads; ++head) {
        const std::int64_t b = row / tiling.queries, i = row % tiling.queries,
                           splits = position(i) / tiling.rows_per_split + 1;
        const auto to = dq.at(query_at(b, i, head));
        for_vectors<T>(dh(), [&](std::int64_t j, auto part) {
          auto total = splat<T>(0);
          for (std::int64_t c = 0; c < splits; ++c)
            total = total + load(partial_dq(c, b * h.heads + head) + i * dh() + j, part);
          to.put(j, part, total);
        });
      }
  });
}

/// dk and dv = sum over the heads of the group, in order.
template <class T, class E>
void Backward<T, E>::sum_keys() const {
  parallel_ranges(a, tiling.batch * tiling.positions, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t kv_head = 0; kv_head < h.kv_heads; ++kv_head) {
        const std::int64_t b = row / tiling.positions, position_in_row = row % tiling.positions;
        const std::int64_t from = position_in_row * dh(), to = key_at(b, position_in_row, kv_head);
        const std::int64_t bh = b * h.heads + kv_head * group();
        for_vectors<T>(dh(), [&](std::int64_t j, auto part) {
          auto sum_k = splat<T>(0), sum_v = splat<T>(0);
          for (std::int64_t g = 0; g < group(); ++g) {
            if (dk) sum_k = sum_k + load(partial_dk(bh + g) + from + j, part);
            if (dv) sum_v = sum_v + load(partial_dv(bh + g) + from + j, part);
          }
          dk.put(to + j, part, sum_k);
          dv.put(to + j, part, sum_v);
        });
      }
  });
}

template <class T, class E>
void backward(const KernelArgs& a) {
  const Backward<T, E> all(a);
  if (all.dq || all.dk) all.deltas();
  const AttentionTiling& tiling = all.tiling;
  const std::int64_t heads = tiling.batch * all.h.heads, items = heads * tiling.splits;
  parallel(a, tiling.lanes, [&](std::int64_t lane) {
    for (std::int64_t item = lane; item < items;
         item += tiling.lanes)  // early splits have most queries: they come first
      all.item(item % heads / all.h.heads, item % all.h.heads, item / heads,
               all.workspace + lane * tiling.lane_elements);
  });
  if (all.dq) all.sum_queries();
  if (all.dk || all.dv) all.sum_keys();
}

}  // namespace

void attention_backward(const KernelArgs& a) {
  dispatch_operands(a, [&]<class T, class E>(T, E) { backward<T, E>(a); });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
