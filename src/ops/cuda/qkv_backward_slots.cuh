#pragma once
// Backward of heads of any width, and what both ways share: a block's sums, the sums over blocks.
#include "cuda/qkv.cuh"

namespace fairway::ops::cuda {

/// What backward reads and writes beside Qkv, whose `qkv` it does not need.
struct QkvGradients {
  const float* rr = nullptr;  ///< saved 1/rms
  const void *q = nullptr, *k = nullptr;
  const float* row = nullptr;  ///< of a deferred norm, may be null: dqkv is times row_scale row[row]
  float row_scale = 1;
  const void *dq = nullptr, *dk = nullptr, *dv = nullptr;
  Output dqkv, dgain, dve, dvs, dw;
  RowSplits splits;
  float* partial = nullptr;  ///< [splits, heads + kv_heads]
};

}  // namespace fairway::ops::cuda

namespace fairway::ops::cuda::qkv_rows {

/// 1 / gain; of 0 it counts as 0: such a head has lost its direction.
__device__ inline float inverse_of(float gain) { return gain == 0 ? 0.0f : 1 / gain; }

__device__ inline float row_factor(const QkvGradients& g, std::int64_t row) {
  return g.row ? g.row_scale * g.row[row] : 1.0f;
}

/// A block's sum of one slot, from `count` numbers `stride` apart in that order: of a query head its gain's
/// gradient, of a value head dv . ve.
__device__ inline void keep_sum(const Qkv& a, const Slot& s, const QkvGradients& g, const float* sums,
                                int count, int stride) {
  if (s.slot >= a.heads && !s.is_value()) return;
  float total = 0;
  for (int i = 0; i < count; ++i) total += sums[i * stride];
  const int column = s.is_query() ? s.slot : s.slot - a.kv_heads;
  g.partial[blockIdx.x * (a.heads + a.kv_heads) + column] = total;
}

/// One head of one position, element by element; gives q . dq (all lanes).
template <class T>
__device__ float head_gradient(const Qkv& a, float gain, const T* y, const T* dy, const float* rope, float by,
                               int lane, int lanes, bool active, const Out<T>& dx, std::int64_t at) {
  float dot = 0;
  for (int i = lane; i < a.head_dim; i += lanes) dot += widen(y[i]) * widen(dy[i]);
  dot = lane_sum(dot, lanes);
  if (!active) return 0;
  const float by_y = inverse_of(gain) * dot / static_cast<float>(a.head_dim);
  for (int i = lane; dx && i < a.head_dim; i += lanes) {
    const float u = turned<T, 1>(dy, rope, i, a.rope_dims, -1.0f).v[0];
    const float n = turned<T, 1>(y, rope, i, a.rope_dims, -1.0f).v[0];
    dx.put(at + i, by * (gain * u - by_y * n));
  }
  return dot;
}

template <class T>
__device__ float value_gradient(const Qkv& a, const Slot& s, const QkvGradients& g, std::int64_t row,
                                int lane, int lanes, const Out<T>& dx, std::int64_t at) {
  const float scale = a.ve ? *a.w * *a.vs : 0.0f, factor = row_factor(g, row);
  const bool wants_sum = a.ve && (g.dvs.data || g.dw.data);
  const Out<T> dve{static_cast<T*>(g.dve.data), g.dve.add};
  const std::int64_t from = s.out_at(row);
  float dot = 0;
  for (int i = lane; i < a.head_dim; i += lanes) {
    const float d = g.dv ? widen(static_cast<const T*>(g.dv)[from + i]) : 0.0f;
    dx.put(at + i, factor * d);
    if (wants_sum) dot += d * widen(static_cast<const T*>(a.ve)[from + i]);
    dve.put(from + i, scale * d);
  }
  return dot;
}

/// Heads of any width: a block has one slot of a split's rows.
template <class T>
__global__ void __launch_bounds__(block_threads)
    backward_by_slots(Qkv a, QkvGradients g, int lanes, Fault* fault) {
  const Slot s(a, blockIdx.y);
  const float gain = s.is_query() ? a.gain[s.slot] : 1.0f;
  const int lane = threadIdx.x % lanes, groups = block_threads / lanes;
  const std::int64_t begin = blockIdx.x * g.splits.each, end = min(begin + g.splits.each, g.splits.rows);
  const Out<T> dx{static_cast<T*>(g.dqkv.data), g.dqkv.add};
  const T* const y = static_cast<const T*>(s.is_query() ? g.q : g.k);
  const T* const dy = static_cast<const T*>(s.is_query() ? g.dq : g.dk);
  float sum = 0;
  for (std::int64_t first = begin; first < end; first += groups) {
    const std::int64_t wanted = first + threadIdx.x / lanes;
    const bool active = wanted < end;
    const std::int64_t row = active ? wanted : end - 1, at = row * s.width + s.slot * a.head_dim;
    if (s.is_value()) {
      if (active) sum += value_gradient<T>(a, s, g, row, lane, lanes, dx, at);
    } else if (dy) {
      const float by = g.rr[row * (a.heads + a.kv_heads) + s.slot] * row_factor(g, row);
      const float dot = head_gradient<T>(a, gain, y + s.out_at(row), dy + s.out_at(row),
                                         rope_row(a, row, fault), by, lane, lanes, active, dx, at);
      if (lane == 0) sum += inverse_of(gain) * dot;
    } else if (active) {
      for (int i = lane; i < a.head_dim; i += lanes) dx.put(at + i, 0.0f);
    }
  }
  __shared__ float sums[block_warps];
  sum = lane_sum(sum);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = sum;
  __syncthreads();
  if (threadIdx.x == 0) keep_sum(a, s, g, sums, block_warps, 1);
}

/// dvs = w sum, dw = vs sum, over all partial sums of the values' columns. One block.
static __global__ void value_sums(Qkv a, QkvGradients g) {
  __shared__ float sums[block_threads];
  float sum = 0;
  const std::int64_t stride = a.heads + a.kv_heads;
  for (std::int64_t p = threadIdx.x; p < g.splits.count; p += block_threads)
    for (int h = 0; h < a.kv_heads; ++h) sum += g.partial[p * stride + a.heads + h];
  sums[threadIdx.x] = sum;
  for (int half = block_threads / 2; half > 0; half /= 2) {
    __syncthreads();
    if (threadIdx.x < half) sums[threadIdx.x] += sums[threadIdx.x + half];
  }
  if (threadIdx.x != 0) return;
  Out<float>{static_cast<float*>(g.dvs.data), g.dvs.add}.put(0, *a.w * sums[0]);
  Out<float>{static_cast<float*>(g.dw.data), g.dw.add}.put(0, *a.vs * sums[0]);
}

}  // namespace fairway::ops::cuda::qkv_rows
