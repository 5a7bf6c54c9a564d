// Learned vectors in the place of the first positions of a row: one warp for each row.
#include "cuda/device.cuh"

namespace fairway::ops::cuda {
namespace {

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    forward(std::int64_t rows, std::int64_t length, std::int64_t columns, std::int64_t count, const T* x,
            const float* head, Out<T> y) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
  const std::int64_t t = Quotient(row, length).rest;
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V)
    y.put(at + i, t < count ? load<V>(head + t * columns + i) : load<V>(x + at + i));
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    backward(std::int64_t rows, std::int64_t length, std::int64_t columns, std::int64_t count, const T* dy,
             Out<T> dx) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
  const bool covered = Quotient(row, length).rest < count;
  if (covered && dx.add) return;
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V)
    dx.put(at + i, covered ? filled<V>(0) : load<V>(dy + at + i));
}

/// dhead: few positions and few rows, so one warp sums a position over the batch in its order.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    head_gradient(std::int64_t batch, std::int64_t length, std::int64_t columns, std::int64_t count,
                  const T* dy, Out<float> dhead) {
  const std::int64_t k = warp_row();
  if (k >= count) return;
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    Floats<V> sum = filled<V>(0);
    for (std::int64_t b = 0; b < batch; ++b) {
      const Floats<V> g = load<V>(dy + (b * length + k) * columns + i);
#pragma unroll
      for (int j = 0; j < V; ++j) sum.v[j] += g.v[j];
    }
    dhead.put(k * columns + i, sum);
  }
}

}  // namespace

void memory_tokens(const Target& t, Storage storage, std::int64_t rows, std::int64_t length,
                   std::int64_t columns, std::int64_t count, const void* x, const float* head, Output y) {
  if (!y) return;
  with_width(storage, columns, {x, head, y.data}, [&](auto zero, auto width) {
    using T = decltype(zero);
    forward<T, decltype(width)::value><<<blocks_for(rows, block_warps), block_threads, 0, t.stream>>>(
        rows, length, columns, count, static_cast<const T*>(x), head, out<T>(y));
  });
}

void memory_tokens_backward(const Target& t, Storage storage, std::int64_t rows, std::int64_t length,
                            std::int64_t columns, std::int64_t count, const void* dy, Output dx,
                            Output dhead) {
  with_width(storage, columns, {dy, dx.data, dhead.data}, [&](auto zero, auto width) {
    using T = decltype(zero);
    constexpr int v = decltype(width)::value;
    if (dhead)
      head_gradient<T, v><<<blocks_for(count, block_warps), block_threads, 0, t.stream>>>(
          rows / length, length, columns, count, static_cast<const T*>(dy), out<float>(dhead));
    if (dx)
      backward<T, v><<<blocks_for(rows, block_warps), block_threads, 0, t.stream>>>(
          rows, length, columns, count, static_cast<const T*>(dy), out<T>(dx));
  });
}

}  // namespace fairway::ops::cuda
