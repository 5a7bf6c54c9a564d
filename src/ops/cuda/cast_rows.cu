#include "cuda/device.cuh"

namespace fairway::ops::cuda {
namespace {

/// One row of w: its quantiser's step (1 where there is none). The divisions of the reference, so the same
/// levels in fp32.
template <int V>
__device__ float row_step(const float* w, std::int64_t columns, float q) {
  if (q == 0) return 1;
  float greatest = 0;
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    const Floats<V> v = load<V>(w + i);
#pragma unroll
    for (int k = 0; k < V; ++k) greatest = fmaxf(greatest, fabsf(v.v[k]));
  }
  return fmaxf(__fdiv_rn(lane_max(greatest), q), __fdiv_rn(1.0f, q));
}
__device__ inline float level(float w, float step, float q) {
  return q == 0 ? w : step * fminf(q, fmaxf(-q - 1, rintf(__fdiv_rn(w, step))));
}

/// y = scale clamp(round_half_even(w / s), -q - 1, q) s, one warp a row.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    forward(std::int64_t rows, std::int64_t columns, float q, const float* w, const float* scale, Out<T> y) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
  const float step = row_step<V>(w + at, columns, q), factor = scale ? scale[row] : 1.0f;
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    Floats<V> v = load<V>(w + at + i);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      v.v[k] = level(v.v[k], step, q);
      if (scale) v.v[k] *= factor;
    }
    y.put(at + i, v);
  }
}

template <int V>
__global__ void __launch_bounds__(block_threads)
    backward(std::int64_t rows, std::int64_t columns, float q, const float* w, const float* scale,
             const float* dy, Out<float> dw, Out<float> dscale) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
  const float step = row_step<V>(w + at, columns, q), factor = scale ? scale[row] : 1.0f;
  float dot = 0;
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    const Floats<V> v = load<V>(w + at + i);
    Floats<V> d = load<V>(dy + at + i);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      dot = fmaf(d.v[k], level(v.v[k], step, q), dot);
      d.v[k] *= factor;
    }
    dw.put(at + i, d);
  }
  dot = lane_sum(dot);
  if (threadIdx.x % 32 == 0) dscale.put(row, dot);
}

}  // namespace

void cast_rows(const Target& t, Storage storage, std::int64_t rows, std::int64_t columns, float q,
               const float* w, const float* scale, Output y) {
  if (!y || rows == 0) return;
  with_width(storage, columns, {w, y.data}, [&](auto zero, auto width) {
    using T = decltype(zero);
    forward<T, decltype(width)::value><<<blocks_for(rows, block_warps), block_threads, 0, t.stream>>>(
        rows, columns, q, w, scale, out<T>(y));
  });
}

void cast_rows_backward(const Target& t, std::int64_t rows, std::int64_t columns, float q, const float* w,
                        const float* scale, const float* dy, Output dw, Output dscale) {
  if (rows == 0) return;
  with_width(Storage::f32, columns, {w, dy, dw.data}, [&](auto zero, auto width) {
    if constexpr (sizeof zero == 4)
      backward<decltype(width)::value><<<blocks_for(rows, block_warps), block_threads, 0, t.stream>>>(
          rows, columns, q, w, scale, dy, out<float>(dw), out<float>(dscale));
  });
}

}  // namespace fairway::ops::cuda
