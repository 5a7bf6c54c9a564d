#include "attention_cut.h"
#include "cpu/gemm.h"
#include "cpu/kernel.h"
#include "fairway/ops/attention.h"
#include "kernels.h"
#include "softmax_block.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

std::int64_t least(std::int64_t a, std::int64_t b) { return a < b ? a : b; }

/// Everything the items of one call share. An item is (row of the batch, query head, chunk of keys): it alone
/// adds to its part of the partial gradients, query blocks in order; a second pass sums the parts in order.
template <class T>
struct Backward {
  const KernelArgs& a;
  const HeadShape h;
  const AttentionCut cut;
  const BackwardLayout layout;
  const T *q, *k, *v, *o, *lse, *d_o;
  const std::int32_t* segment;
  const Out<T> dq, dk, dv;
  T* workspace;
  const T scale;

  explicit Backward(const KernelArgs& args)
      : a(args),
        h(static_cast<const AttentionBackward&>(args.op).shape),
        cut(cut_attention_backward(h, args.in[0].shape(), args.in[1].shape()[1])),
        layout(layout_backward(h, cut)),
        q(in<T>(args, 0)),
        k(in<T>(args, 1)),
        v(in<T>(args, 2)),
        o(in<T>(args, 4)),
        lse(in<T>(args, 5)),
        d_o(in<T>(args, 6)),
        segment(in<std::int32_t>(args, 3)),
        dq(out<T>(args, 0)),
        dk(out<T>(args, 1)),
        dv(out<T>(args, 2)),
        workspace(static_cast<T*>(args.workspace.data)),
        scale(T(1) / static_cast<T>(__builtin_sqrt(static_cast<T>(h.head_dim)))) {}

  std::int64_t dh() const { return h.head_dim; }
  std::int64_t group() const { return h.heads / h.kv_heads; }
  std::int64_t query_stride() const { return h.heads * dh(); }
  std::int64_t key_stride() const { return h.kv_heads * dh(); }
  std::int64_t query_at(std::int64_t b, std::int64_t i, std::int64_t head) const {
    return ((b * cut.queries + i) * h.heads + head) * dh();
  }
  std::int64_t key_at(std::int64_t b, std::int64_t position, std::int64_t kv_head) const {
    return ((b * cut.positions + position) * h.kv_heads + kv_head) * dh();
  }
  /// Partial gradients of one query head.
  T* partial_dq(std::int64_t chunk, std::int64_t bh) const {
    return workspace + layout.dq + (chunk * cut.batch * h.heads + bh) * cut.queries * dh();
  }
  T* partial_dk(std::int64_t bh) const { return workspace + layout.dk + bh * cut.positions * dh(); }
  T* partial_dv(std::int64_t bh) const { return workspace + layout.dv + bh * cut.positions * dh(); }
  T* delta(std::int64_t bh) const { return workspace + layout.delta + bh * cut.queries; }

  std::int64_t position(std::int64_t i) const { return cut.positions - cut.queries + i; }
  std::int64_t first_key(std::int64_t b, std::int64_t i) const {
    return segment ? segment[b * cut.positions + position(i)] : 0;
  }

  void deltas() const;
  void item(std::int64_t b, std::int64_t head, std::int64_t chunk, T* scratch) const;
  void block(std::int64_t b, std::int64_t head, std::int64_t chunk, std::int64_t first, std::int64_t rows,
             std::int64_t key, std::int64_t keys, T* scratch) const;
  void rebuild(std::int64_t b, std::int64_t bh, std::int64_t first, std::int64_t rows, std::int64_t key,
               std::int64_t keys, T* p, T* ds) const;
  void sum_queries() const;
  void sum_keys() const;
};

template <class T>
void zero(T* p, std::int64_t n) {
  for_vectors<T>(n, [&](std::int64_t i, auto part) { store(p + i, part, splat<T>(0)); });
}

/// delta = rowsum(do . o)
template <class T>
void Backward<T>::deltas() const {
  parallel_ranges(a, cut.batch * cut.queries, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t head = 0; head < h.heads; ++head) {
        const std::int64_t b = row / cut.queries, i = row % cut.queries, at = query_at(b, i, head);
        delta(b * h.heads + head)[i] = dot(o + at, d_o + at, dh());
      }
  });
}

/// p = exp(p - lse), ds = p . (ds - delta); what a row does not see becomes zero in both.
template <class T>
void Backward<T>::rebuild(std::int64_t b, std::int64_t bh, std::int64_t first, std::int64_t rows,
                          std::int64_t key, std::int64_t keys, T* p, T* ds) const {
  for (std::int64_t r = 0; r < rows; ++r) {
    const std::int64_t i = first + r, lo = first_key(b, i) - key, hi = position(i) + 1 - key;
    const VisibleSpan s = visible_span<T>(lo > 0 ? lo : 0, least(hi, keys));
    T *p_row = p + r * cut.key_rows, *ds_row = ds ? ds + r * cut.key_rows : nullptr;
    zero_outside(p_row, s, keys);
    if (ds) zero_outside(ds_row, s, keys);
    if (s.to == s.from) continue;
    fill_edges(p_row, s, static_cast<T>(-__builtin_inff()));
    if (ds) fill_edges(ds_row, s, T(0));
    rebuild_row(p_row, ds_row, s, lse[bh * cut.queries + i], delta(bh)[i]);
  }
}

/// Queries [first, first + rows) against keys [key, key + keys).
template <class T>
void Backward<T>::block(std::int64_t b, std::int64_t head, std::int64_t chunk, std::int64_t first,
                        std::int64_t rows, std::int64_t key, std::int64_t keys, T* scratch) const {
  const std::int64_t bh = b * h.heads + head, ld = cut.key_rows;
  const T *queries = q + query_at(b, first, head), *gradients = d_o + query_at(b, first, head);
  const T *key_rows = k + key_at(b, key, head / group()), *value_rows = v + key_at(b, key, head / group());
  const bool need_ds = dq || dk;
  T *p = scratch, *ds = need_ds ? scratch + cut.query_rows * ld : nullptr;
  gemm({false, true, rows, keys, dh(), query_stride(), key_stride(), ld}, scale, queries, key_rows, T(0), p);
  if (ds)
    gemm({false, true, rows, keys, dh(), query_stride(), key_stride(), ld}, T(1), gradients, value_rows, T(0),
         ds);
  rebuild(b, bh, first, rows, key, keys, p, ds);
  if (dv)
    gemm({true, false, keys, dh(), rows, ld, query_stride(), dh()}, T(1), p, gradients, T(1),
         partial_dv(bh) + key * dh());
  if (dk)
    gemm({true, false, keys, dh(), rows, ld, query_stride(), dh()}, scale, ds, queries, T(1),
         partial_dk(bh) + key * dh());
  if (dq)
    gemm({false, false, rows, dh(), keys, ld, key_stride(), dh()}, scale, ds, key_rows, T(1),
         partial_dq(chunk, bh) + first * dh());
}

template <class T>
void Backward<T>::item(std::int64_t b, std::int64_t head, std::int64_t chunk, T* scratch) const {
  const std::int64_t bh = b * h.heads + head, begin = chunk * cut.chunk_rows;
  const std::int64_t end = least(begin + cut.chunk_rows, cut.positions);
  if (dk) zero(partial_dk(bh) + begin * dh(), (end - begin) * dh());
  if (dv) zero(partial_dv(bh) + begin * dh(), (end - begin) * dh());
  for (std::int64_t first = 0; first < cut.queries; first += cut.query_rows) {
    const std::int64_t rows = least(cut.query_rows, cut.queries - first);
    if (dq) zero(partial_dq(chunk, bh) + first * dh(), rows * dh());
    const std::int64_t visible_end = least(end, position(first + rows - 1) + 1);
    std::int64_t visible_begin = first_key(b, first);
    for (std::int64_t r = 1; segment && r < rows; ++r)
      visible_begin = least(visible_begin, first_key(b, first + r));
    for (std::int64_t key = begin; key < visible_end; key += cut.key_rows) {
      const std::int64_t keys = least(cut.key_rows, visible_end - key);
      if (key + keys > visible_begin) block(b, head, chunk, first, rows, key, keys, scratch);
    }
  }
}

/// dq = sum over chunks, in order.
template <class T>
void Backward<T>::sum_queries() const {
  parallel_ranges(a, cut.batch * cut.queries, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t head = 0; head < h.heads; ++head) {
        const std::int64_t b = row / cut.queries, i = row % cut.queries,
                           chunks = position(i) / cut.chunk_rows + 1;
        const auto to = dq.at(query_at(b, i, head));
        for_vectors<T>(dh(), [&](std::int64_t j, auto part) {
          auto total = splat<T>(0);
          for (std::int64_t c = 0; c < chunks; ++c)
            total = total + load(partial_dq(c, b * h.heads + head) + i * dh() + j, part);
          to.put(j, part, total);
        });
      }
  });
}

/// dk and dv = sum over the heads of the group, in order.
template <class T>
void Backward<T>::sum_keys() const {
  parallel_ranges(a, cut.batch * cut.positions, 64, [&](std::int64_t begin, std::int64_t end) {
    for (std::int64_t row = begin; row < end; ++row)
      for (std::int64_t kv_head = 0; kv_head < h.kv_heads; ++kv_head) {
        const std::int64_t b = row / cut.positions, position_in_row = row % cut.positions;
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

template <class T>
void backward(const KernelArgs& a) {
  const Backward<T> all(a);
  if (all.dq || all.dk) all.deltas();
  const AttentionCut& cut = all.cut;
  const std::int64_t heads = cut.batch * all.h.heads, items = heads * cut.chunks;
  parallel(a, cut.lanes, [&](std::int64_t lane) {
    for (std::int64_t item = lane; item < items;
         item += cut.lanes)  // early chunks have most queries: they come first
      all.item(item % heads / all.h.heads, item % all.h.heads, item / heads,
               all.workspace + lane * cut.lane_elements);
  });
  if (all.dq) all.sum_queries();
  if (all.dk || all.dv) all.sum_keys();
}

}  // namespace

void attention_backward(const KernelArgs& a) {
  dispatch(a.in[0], [&](auto zero) { backward<decltype(zero)>(a); });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
