#include "cuda/device.cuh"

namespace fairway::ops::cuda {
namespace {

/// A warp for each row: four columns a lane of every 128.
template <class T>
__global__ void __launch_bounds__(block_threads)
    kernel(std::int64_t rows, std::int64_t columns, std::int64_t parts, const T* x, Out<float> squares) {
  const std::int64_t row = warp_row();
  if (row >= rows) return;
  const int lane = threadIdx.x % 32;
  for (std::int64_t p = 0; p < parts; ++p) {
    float sum = 0;
    for (std::int64_t i = p * 128 + lane; i < min(columns, (p + 1) * 128); i += 32) {
      const float v = widen(x[row * columns + i]);
      sum += v * v;
    }
    sum = lane_sum(sum);
    if (lane == 0) squares.put(row * parts + p, sum);
  }
}

}  // namespace

void row_squares(const Target& t, Storage storage, std::int64_t rows, std::int64_t columns, const void* x,
                 Output squares) {
  if (!squares || rows == 0) return;
  with_storage(storage, [&](auto zero) {
    using T = decltype(zero);
    kernel<T><<<blocks_for(rows, block_warps), block_threads, 0, t.stream>>>(
        rows, columns, (columns + 127) / 128, static_cast<const T*>(x), out<float>(squares));
  });
}

}  // namespace fairway::ops::cuda
