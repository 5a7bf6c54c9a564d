#pragma once
// Where heads lie in the fused projection, and rotation by position; shared by forward and backward.

#include "cuda/device.cuh"

namespace fairway::ops::cuda {

struct Qkv {
  std::int64_t batch = 0, length = 0, positions = 0;
  int heads = 0, kv_heads = 0, head_dim = 0, rope_dims = 0;
  const void* qkv = nullptr;
  const float *gain = nullptr, *rope = nullptr;
  const std::int32_t* offset = nullptr;
  const void* ve = nullptr;
  const float *vs = nullptr, *w = nullptr;
};

/// One head of the fused projection: queries, then keys, then values.
struct Slot {
  int slot, heads, kv_heads, head_dim;
  std::int64_t width;
  __device__ Slot(const Qkv& a, unsigned slot)
      : slot(static_cast<int>(slot)),
        heads(a.heads),
        kv_heads(a.kv_heads),
        head_dim(a.head_dim),
        width(static_cast<std::int64_t>(a.heads + 2 * a.kv_heads) * a.head_dim) {}
  __device__ bool is_query() const { return slot < heads; }
  __device__ bool is_value() const { return slot >= heads + kv_heads; }
  /// Offset of this head's row in q, k or v.
  __device__ std::int64_t out_at(std::int64_t row) const {
    if (is_query()) return (row * heads + slot) * head_dim;
    return (row * kv_heads + (slot - heads) % kv_heads) * head_dim;
  }
};

/// The position's row of the rotation table; a position outside it is noted.
__device__ inline const float* rope_row(const Qkv& a, std::int64_t row, Fault* fault) {
  const Quotient q(row, a.length);
  std::int64_t position = q.rest + (a.offset ? a.offset[q.whole] : 0);
  if (position < 0 || position >= a.positions) {
    note_fault(fault, Check::rope_position, position, a.positions);
    position = 0;
  }
  return a.rope + position * a.rope_dims;
}

/// Elements i to i + V - 1 of x, pairs (i, i + dims / 2) turned: p cos + r sin, r cos - p sin; sign -1 turns
/// back.
template <class T, int V>
__device__ Floats<V> turned(const T* x, const float* rope, int i, int dims, float sign) {
  Floats<V> h = load<V>(x + i);
  if (i >= dims) return h;
  const int pairs = dims / 2;
  const bool lower = i < pairs;
  const int pair = lower ? i : i - pairs;
  const Floats<V> partner = load<V>(x + (lower ? i + pairs : pair));
  const Floats<V> c = load<V>(rope + pair), s = load<V>(rope + pairs + pair);
  const float by = lower ? sign : -sign;
#pragma unroll
  for (int j = 0; j < V; ++j) h.v[j] = h.v[j] * c.v[j] + by * s.v[j] * partner.v[j];
  return h;
}

}  // namespace fairway::ops::cuda
