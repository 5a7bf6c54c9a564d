// Learned vectors in the place of the first positions of a row: one warp for each row.
#include "cuda/launch.cuh"

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
    for (std::int64_t b = 0; b < batch; ++b) sum += load<V>(dy + (b * length + k) * columns + i);
    dhead.put(k * columns + i, sum);
  }
}

}  // namespace

void memory_tokens(const KernelArgs& a) {
  if (!a.out[0]) return;
  const Shape& x = a.in[0].shape();
  const std::int64_t count = a.in[1].shape()[0];
  with_width(a, a.in[0], x[2], {data(a, 0), data(a, 1), a.out[0].data}, [&]<class T, int V>(T, Constant<V>) {
    launch_rows(a, x.rows(), forward<T, V>, x.rows(), x[1], x[2], count, in<T>(a, 0), floats(a, 1),
                out<T>(a, 0));
  });
}

void memory_tokens_backward(const KernelArgs& a) {
  const Shape& dy = a.in[1].shape();
  const std::int64_t count = a.in[0].shape()[0];
  const Output dx = output(a, 0), dhead = output(a, 1);
  with_width(a, a.in[1], dy[2], {data(a, 1), dx.data, dhead.data}, [&]<class T, int V>(T, Constant<V>) {
    if (dhead)
      launch_rows(a, count, head_gradient<T, V>, dy[0], dy[1], dy[2], count, in<T>(a, 1), out<float>(dhead));
    if (dx)
      launch_rows(a, dy.rows(), backward<T, V>, dy.rows(), dy[1], dy[2], count, in<T>(a, 1), out<T>(dx));
  });
}

}  // namespace fairway::ops::cuda
