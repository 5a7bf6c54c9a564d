#include "cuda/device.cuh"

namespace fairway::ops::cuda {
namespace {

/// y = s clamp(round_half_even(w / s), -q - 1, q), s = max(max |w| / q, 1 / q): the divisions of the
/// reference, so the same levels in fp32.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    kernel(std::int64_t rows, std::int64_t columns, float q, const T* w, Out<T> y) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
  float greatest = 0;
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    const Floats<V> v = load<V>(w + at + i);
#pragma unroll
    for (int k = 0; k < V; ++k) greatest = fmaxf(greatest, fabsf(v.v[k]));
  }
  const float scale = fmaxf(__fdiv_rn(lane_max(greatest), q), __fdiv_rn(1.0f, q));
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    Floats<V> v = load<V>(w + at + i);
#pragma unroll
    for (int k = 0; k < V; ++k) v.v[k] = scale * fminf(q, fmaxf(-q - 1, rintf(__fdiv_rn(v.v[k], scale))));
    y.put(at + i, v);
  }
}

}  // namespace

void fake_quantize_rows(const Target& t, Storage storage, std::int64_t rows, std::int64_t columns, float q,
                        const void* w, Output y) {
  if (!y || rows == 0) return;
  with_width(storage, columns, {w, y.data}, [&](auto zero, auto width) {
    using T = decltype(zero);
    kernel<T, decltype(width)::value><<<blocks_for(rows, block_warps), block_threads, 0, t.stream>>>(
        rows, columns, q, static_cast<const T*>(w), out<T>(y));
  });
}

}  // namespace fairway::ops::cuda
