#include "cuda/device.cuh"

namespace fairway::ops::cuda {
namespace {

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    kernel(std::int64_t rows, std::int64_t columns, float factor, const T* x, const float* r, Out<T> y) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
  const float by = factor * r[row];
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    Floats<V> v = load<V>(x + at + i);
#pragma unroll
    for (int k = 0; k < V; ++k) v.v[k] *= by;
    y.put(at + i, v);
  }
}

}  // namespace

void scale_rows(const Target& t, Storage storage, std::int64_t rows, std::int64_t columns, float factor,
                const void* x, const float* r, Output y) {
  if (!y || rows == 0) return;
  with_width(storage, columns, {x, y.data}, [&](auto zero, auto width) {
    using T = decltype(zero);
    kernel<T, decltype(width)::value><<<blocks_for(rows, block_warps), block_threads, 0, t.stream>>>(
        rows, columns, factor, static_cast<const T*>(x), r, out<T>(y));
  });
}

}  // namespace fairway::ops::cuda
