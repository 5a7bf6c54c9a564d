// Operators that look along the positions of a row.
#include "cuda/column_sums.cuh"
#include "cuda/launch.cuh"
#include "fairway/ops/residual.h"

namespace fairway::ops::cuda {
namespace {

/// The value before position `row`: of the same sequence, carried in, or nothing.
template <class T>
__device__ const T* before(const T* x, const T* previous, std::int64_t row, std::int64_t length,
                           std::int64_t columns, std::int64_t i) {
  const Quotient q(row, length);
  if (q.rest != 0) return x + (row - 1) * columns + i;
  return previous ? previous + q.whole * columns + i : nullptr;
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    smear_kernel(std::int64_t rows, std::int64_t length, std::int64_t columns, const T* x, const float* gamma,
                 const T* previous, Out<T> y) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    Floats<V> v = load<V>(x + at + i);
    const Floats<V> g = load<V>(gamma + i);
    const T* p = before(x, previous, row, length, columns, i);
    const Floats<V> b = p ? load<V>(p) : filled<V>(0);
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const float take = sigmoid(g.v[k]);
      v.v[k] = (1 - take) * v.v[k] + take * b.v[k];
    }
    y.put(at + i, v);
  }
}

template <class T, int V>
struct SmearGradient {
  const T* x;
  const float* gamma;
  const T *dy, *previous;
  Out<T> dx;
  bool wants_sum;
  std::int64_t length, columns;
  Floats<V> gates{};
  __device__ void begin(std::int64_t i) {
    gates = load<V>(gamma + i);
#pragma unroll
    for (int k = 0; k < V; ++k) gates.v[k] = sigmoid(gates.v[k]);
  }
  /// All reads before the first sum, so that they wait for memory together.
  __device__ Floats<V> operator()(std::int64_t row, std::int64_t at, std::int64_t i) const {
    const std::int64_t position = Quotient(row, length).rest;
    const T* p = wants_sum ? before(x, previous, row, length, columns, i) : nullptr;
    const Floats<V> g = load<V>(dy + at);
    const Floats<V> after = dx && position + 1 < length ? load<V>(dy + at + columns) : filled<V>(0);
    const Floats<V> now = wants_sum ? load<V>(x + at) : filled<V>(0), b = p ? load<V>(p) : filled<V>(0);
    Floats<V> summand, d;
#pragma unroll
    for (int k = 0; k < V; ++k) {
      const float take = gates.v[k];
      summand.v[k] = g.v[k] * (b.v[k] - now.v[k]);
      d.v[k] = (1 - take) * g.v[k] + take * after.v[k];
    }
    dx.put(at, d);
    return summand;
  }
};

/// y row (b, i) = x row (b, i + shift), zeros (or nothing, when adding) where that is before the start.
template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    shift_kernel(std::int64_t rows, std::int64_t to_length, std::int64_t from_length, std::int64_t columns,
                 const T* x, Out<T> y) {
  const std::int64_t row = warp_row();
  if (row >= rows) return;
  const Quotient q(row, to_length);
  const std::int64_t from = q.rest + from_length - to_length;
  if (from < 0 && y.add) return;
  const T* x_row = x + (q.whole * from_length + from) * columns;
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V)
    y.put(row * columns + i, from < 0 ? filled<V>(0) : load<V>(x_row + i));
}

/// Output 0 [B, to_length, D] of `x` [B, from_length, D].
void shift(const KernelArgs& a, const View& x, std::int64_t to_length, std::int64_t from_length) {
  if (!a.out[0]) return;
  const std::int64_t rows = x.shape()[0] * to_length, columns = x.shape()[2];
  with_width(a, x, columns, {x.data, a.out[0].data}, [&]<class T, int V>(T, Constant<V>) {
    launch_rows(a, rows, shift_kernel<T, V>, rows, to_length, from_length, columns,
                static_cast<const T*>(x.data), out<T>(a, 0));
  });
}

}  // namespace

void smear(const KernelArgs& a) {
  if (!a.out[0]) return;
  const Shape& x = a.in[0].shape();
  with_width(a, a.in[0], x[2], {data(a, 0), data(a, 1), data(a, 2), a.out[0].data},
             [&]<class T, int V>(T, Constant<V>) {
               launch_rows(a, x.rows(), smear_kernel<T, V>, x.rows(), x[1], x[2], in<T>(a, 0), floats(a, 1),
                           in<T>(a, 2), out<T>(a, 0));
             });
}

void smear_backward(const KernelArgs& a) {
  const Output dx = output(a, 0), dgamma = output(a, 1);
  if (!dx && !dgamma) return;
  const Shape& x = a.in[0].shape();
  const std::int64_t length = x[1], columns = x[2];
  const float* gamma = floats(a, 1);
  const RowSplits p = split_rows_on_device(x.rows());
  with_width(a, a.in[0], columns, {data(a, 0), gamma, data(a, 2), data(a, 3), dx.data},
             [&]<class T, int V>(T, Constant<V>) {
               const SmearGradient<T, V> body{in<T>(a, 0), gamma,        in<T>(a, 2), in<T>(a, 3),
                                              out<T>(dx),  bool(dgamma), length,      columns};
               column_sums<V>(a, p, columns, body, bool(dgamma));
             });
  sum_partials(target(a), partials(a), p.count, columns, columns, gamma, dgamma);
}

void take_last(const KernelArgs& a) {
  shift(a, a.in[0], static_cast<const TakeLast&>(a.op).n, a.in[0].shape()[1]);
}
void take_last_backward(const KernelArgs& a) { shift(a, a.in[1], a.in[0].shape()[1], a.in[1].shape()[1]); }

}  // namespace fairway::ops::cuda
