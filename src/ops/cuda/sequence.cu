// Operators that look along the positions of a row.
#include "cuda/column_sums.cuh"
#include "cuda/device.cuh"

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

void shift(const Target& t, Storage storage, std::int64_t batch, std::int64_t to_length,
           std::int64_t from_length, std::int64_t columns, const void* x, Output y) {
  if (!y) return;
  with_width(storage, columns, {x, y.data}, [&](auto zero, auto width) {
    using T = decltype(zero);
    const std::int64_t rows = batch * to_length;
    shift_kernel<T, decltype(width)::value><<<blocks_for(rows, block_warps), block_threads, 0, t.stream>>>(
        rows, to_length, from_length, columns, static_cast<const T*>(x), out<T>(y));
  });
}

}  // namespace

void smear(const Target& t, Storage storage, std::int64_t rows, std::int64_t length, std::int64_t columns,
           const void* x, const float* gamma, const void* previous, Output y) {
  if (!y) return;
  with_width(storage, columns, {x, gamma, previous, y.data}, [&](auto zero, auto width) {
    using T = decltype(zero);
    smear_kernel<T, decltype(width)::value><<<blocks_for(rows, block_warps), block_threads, 0, t.stream>>>(
        rows, length, columns, static_cast<const T*>(x), gamma, static_cast<const T*>(previous), out<T>(y));
  });
}

void smear_backward(const Target& t, Storage storage, const Pieces& pieces, std::int64_t length,
                    std::int64_t columns, const void* x, const float* gamma, const void* dy,
                    const void* previous, Output dx, Output dgamma, float* partial) {
  if (!dx && !dgamma) return;
  with_width(storage, columns, {x, gamma, dy, previous, dx.data}, [&](auto zero, auto width) {
    using T = decltype(zero);
    constexpr int v = decltype(width)::value;
    const SmearGradient<T, v> body{static_cast<const T*>(x),
                                   gamma,
                                   static_cast<const T*>(dy),
                                   static_cast<const T*>(previous),
                                   out<T>(dx),
                                   bool(dgamma),
                                   length,
                                   columns};
    column_sums<v>(t, pieces, columns, body, dgamma ? partial : nullptr);
  });
  sum_partials(t, partial, pieces.count, columns, columns, gamma, dgamma);
}

void take_last(const Target& t, Storage storage, std::int64_t batch, std::int64_t length, std::int64_t n,
               std::int64_t columns, const void* x, Output y) {
  shift(t, storage, batch, n, length, columns, x, y);
}
void take_last_backward(const Target& t, Storage storage, std::int64_t batch, std::int64_t length,
                        std::int64_t n, std::int64_t columns, const void* dy, Output dx) {
  shift(t, storage, batch, length, n, columns, dy, dx);
}

}  // namespace fairway::ops::cuda
