#include "fairway/ops/attention.h"

#include "attention_operands.h"
#include "kernels.h"
#include "softmax_block.h"

// With products in bf16 the operands of both products are rounded (q, k, v once, probabilities where
// they are made): that doubles the speed of the products and costs a tenth of it. Scores, softmax and sums
// stay fp32. Decoding stays fp32 altogether: a new token meets each key once, so that rounding costs more
// than it saves.

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

/// Rows of queries that one item handles: consecutive positions of one head, or (decoding) heads at one
/// position.
template <class T, class E>
struct Rows {
  const E* q = nullptr;
  std::int64_t stride = 0, count = 0;
  std::int64_t position = 0, step = 1;    ///< row r stands at position + r * step
  const std::int32_t* segment = nullptr;  ///< first visible key by position, or null

  std::int64_t position_of(std::int64_t r) const { return position + r * step; }
  std::int64_t first_key(std::int64_t r) const { return segment ? segment[position_of(r)] : 0; }
  std::int64_t end_key(std::int64_t r) const { return position_of(r) + 1; }
  std::int64_t end() const { return end_key(count - 1); }
  /// First key that any row sees.
  std::int64_t begin() const {
    std::int64_t first = first_key(0);
    for (std::int64_t r = 1; segment && r < count; ++r) first = smaller(first, first_key(r));
    return first;
  }
  VisibleSpan span(std::int64_t r, std::int64_t key, std::int64_t keys) const {
    const std::int64_t lo = first_key(r) - key, hi = end_key(r) - key;
    return visible_span<T>(lo > 0 ? lo : 0, smaller(hi, keys));
  }
};

/// Keys and values of one KV head.
template <class E>
struct KeyValues {
  const E *k = nullptr, *v = nullptr;
  std::int64_t stride = 0;
};

/// A lane's memory for forward.
template <class T>
struct ForwardScratch {
  T *scores, *o, *maximum, *total;
  ForwardScratch(T* p, std::int64_t rows, std::int64_t key_rows, std::int64_t dh)
      : scores(p),
        o(p + rows * key_rows),
        maximum(o + (rows * dh + 15) / 16 * 16),
        total(maximum + (rows + 15) / 16 * 16) {}
};

/// One block of scores becomes probabilities relative to the running maximum; o and the totals are rescaled.
template <class T, class E>
void softmax_block(const Rows<T, E>& rows, const ForwardScratch<T>& w, std::int64_t key, std::int64_t keys,
                   std::int64_t key_rows, std::int64_t dh, T scale) {
  constexpr T infinity = static_cast<T>(__builtin_inff());
  for (std::int64_t r = 0; r < rows.count; ++r) {
    T* row = w.scores + r * key_rows;
    const VisibleSpan s = rows.span(r, key, keys);
    zero_outside(row, s, keys);
    if (s.to == s.from) continue;
    fill_edges(row, s, -infinity);
    const T block = scale * row_maximum(row, s), before = w.maximum[r];
    if (block > before) {
      w.maximum[r] = block;
      const T factor = before == -infinity ? T(0) : exp_of(before - block);
      w.total[r] *= factor;
      scale_row(w.o + r * dh, dh, factor);
    }
    w.total[r] += exponentials(row, s, scale, w.maximum[r]);
  }
}

/// o and lse of some rows: key blocks in order, softmax kept relative to a running maximum (Milakov and
/// Gimelshein 2018; Dao 2023). Leaves o in w.o, not yet divided by the totals.
template <class T, class E>
void attend(const Rows<T, E>& rows, const KeyValues<E>& kv, const ForwardScratch<T>& w, std::int64_t key_rows,
            std::int64_t dh, T scale) {
  for (std::int64_t r = 0; r < rows.count; ++r)
    w.maximum[r] = static_cast<T>(-__builtin_inff()), w.total[r] = 0;
  for (std::int64_t i = 0; i < rows.count * dh; ++i) w.o[i] = 0;
  const std::int64_t end = rows.end();
  for (std::int64_t key = rows.begin() / key_rows * key_rows; key < end; key += key_rows) {
    const std::int64_t keys = smaller(key_rows, end - key);
    multiply({false, true, rows.count, keys, dh, rows.stride, kv.stride, key_rows}, rows.q,
             kv.k + key * kv.stride, false, w.scores);
    softmax_block(rows, w, key, keys, key_rows, dh, scale);
    const E* p = score_operand<E>(w.scores, rows.count, keys, key_rows);
    multiply({false, false, rows.count, dh, keys, operand_stride<E, T>(key_rows), kv.stride, dh}, p,
             kv.v + key * kv.stride, true, w.o);
  }
}

/// Row r of the result goes to offset r * stride of `o` (and to lse[r]).
template <class T, class E>
void put_rows(const Rows<T, E>& rows, const ForwardScratch<T>& w, std::int64_t dh, const Out<T>& o,
              std::int64_t stride, const Out<T>& lse) {
  for (std::int64_t r = 0; r < rows.count; ++r) {
    const auto inverse = splat<T>(T(1) / w.total[r]);
    const auto to = o.at(r * stride);
    for_vectors<T>(
        dh, [&](std::int64_t j, auto part) { to.put(j, part, load(w.o + r * dh + j, part) * inverse); });
    lse.put(r, w.maximum[r] + log_of(w.total[r]));
  }
}

template <class T>
T score_scale(const HeadShape& h) {
  return T(1) / static_cast<T>(__builtin_sqrt(static_cast<T>(h.head_dim)));
}

template <class T, class E>
void forward(const KernelArgs& a) {
  const HeadShape& h = static_cast<const Attention&>(a.op).shape;
  const std::int64_t dh = h.head_dim, positions = a.in[1].shape()[1], group = h.heads / h.kv_heads;
  const AttentionTiling tiling = tile_attention(h, a.in[0].shape(), positions);
  const std::int64_t rows_of_block = tiling.query_rows, heads = tiling.batch * h.heads,
                     items = heads * tiling.query_blocks;
  T* scratch = static_cast<T*>(a.workspace.data);
  const RoundedLayout room = layout_rounded(h, tiling, tiling.lanes * tiling.lane_elements);
  const auto q = operand<E>(a, in<T>(a, 0), a.in[0].shape(), reinterpret_cast<E*>(scratch + room.q));
  const auto k = operand<E>(a, in<T>(a, 1), a.in[1].shape(), reinterpret_cast<E*>(scratch + room.k));
  const auto v = operand<E>(a, in<T>(a, 2), a.in[1].shape(), reinterpret_cast<E*>(scratch + room.v));
  const auto* segment = in<std::int32_t>(a, 3);
  const auto o = out<T>(a, 0), lse = out<T>(a, 1);
  parallel(a, tiling.lanes, [&](std::int64_t lane) {
    const ForwardScratch<T> w(scratch + lane * tiling.lane_elements, rows_of_block, tiling.key_rows, dh);
    for (std::int64_t item = lane; item < items; item += tiling.lanes) {
      const std::int64_t block = tiling.query_blocks - 1 - item / heads;  // long rows first
      const std::int64_t b = item % heads / h.heads, head = item % h.heads, first = block * rows_of_block;
      const Rows<T, E> rows{q.at(b, first, head),
                            q.row_stride,
                            smaller(rows_of_block, tiling.queries - first),
                            positions - tiling.queries + first,
                            1,
                            segment ? segment + b * positions : nullptr};
      const KeyValues<E> kv{k.at(b, 0, head / group), v.at(b, 0, head / group), k.row_stride};
      attend(rows, kv, w, tiling.key_rows, dh, score_scale<T>(h));
      put_rows(rows, w, dh, o.at(((b * tiling.queries + first) * h.heads + head) * dh), h.heads * dh,
               lse.at((b * h.heads + head) * tiling.queries + first));
    }
  });
}

/// New keys and values go to the end of each row's cache.
template <class T>
void store_new(const KernelArgs& a, const HeadShape& h, const std::int32_t* length) {
  const std::int64_t fresh = a.in[1].shape()[1], capacity = a.in[4].shape()[1],
                     width = h.kv_heads * h.head_dim;
  for (int i = 0; i < 2; ++i) {
    const T* from = in<T>(a, 1 + i);
    T* cache = static_cast<T*>(a.in[static_cast<std::size_t>(4 + i)].data);
    for (std::int64_t b = 0; b < a.in[0].shape()[0]; ++b)
      __builtin_memcpy(cache + (b * capacity + length[b]) * width, from + b * fresh * width,
                       static_cast<std::size_t>(fresh * width) * sizeof(T));
  }
}

template <class T>
void decode(const KernelArgs& a) {
  const HeadShape& h = static_cast<const AttentionDecode&>(a.op).shape;
  const std::int64_t dh = h.head_dim, capacity = a.in[4].shape()[1], group = h.heads / h.kv_heads;
  const auto* length = in<std::int32_t>(a, 3);
  const AttentionTiling tiling = tile_attention(h, a.in[0].shape(), capacity);
  check_cache_room(length, tiling.batch, tiling.queries, capacity);
  store_new<T>(a, h, length);
  // One new position: the heads of a group share keys and lie side by side, so they are the rows of one
  // product.
  const bool single = tiling.queries == 1;
  const std::int64_t heads = single ? h.kv_heads : h.heads,
                     rows_of_block = single ? group : tiling.query_rows;
  const std::int64_t items = tiling.batch * heads * tiling.query_blocks,
                     item_lanes = smaller(tiling.lanes, items);
  const T *q = in<T>(a, 0), *k = in<T>(a, 4), *v = in<T>(a, 5);
  const auto o = out<T>(a, 0);
  T* scratch = static_cast<T*>(a.workspace.data);
  parallel(a, item_lanes, [&](std::int64_t lane) {
    const ForwardScratch<T> w(scratch + lane * tiling.lane_elements, rows_of_block, tiling.key_rows, dh);
    for (std::int64_t item = lane; item < items; item += item_lanes) {
      const std::int64_t block = item / (tiling.batch * heads),
                         first = block * rows_of_block * (single ? 0 : 1);
      const std::int64_t b = item / heads % tiling.batch, head = item % heads * (single ? group : 1);
      const std::int64_t at = ((b * tiling.queries + first) * h.heads + head) * dh;
      const std::int64_t stride = single ? dh : h.heads * dh;
      const Rows<T, T> rows{q + at,
                            stride,
                            single ? group : smaller(rows_of_block, tiling.queries - first),
                            length[b] + first,
                            single ? 0 : 1,
                            nullptr};
      const std::int64_t kv = (b * capacity * h.kv_heads + head / group) * dh;
      attend(rows, KeyValues<T>{k + kv, v + kv, h.kv_heads * dh}, w, tiling.key_rows, dh, score_scale<T>(h));
      put_rows(rows, w, dh, o.at(at), stride, Out<T>{});
    }
  });
}

}  // namespace

void attention(const KernelArgs& a) {
  dispatch_operands(a, [&]<class T, class E>(T, E) { forward<T, E>(a); });
}
void attention_decode(const KernelArgs& a) {
  dispatch(a.in[0], [&]<class T>(T) { decode<T>(a); });
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
