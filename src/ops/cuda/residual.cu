#include "cuda/column_sums.cuh"
#include "cuda/device.cuh"

namespace fairway::ops::cuda {
namespace {

template <int V>
__device__ Floats<V> scale_at(const float* scale, bool scalar, std::int64_t i) {
  return scalar ? filled<V>(*scale) : load<V>(scale + i);
}

template <class T, int V>
__global__ void __launch_bounds__(block_threads)
    forward(std::int64_t rows, std::int64_t columns, const T* x, const T* branch, const float* scale,
            bool scalar, Out<T> y) {
  const std::int64_t row = warp_row(), at = row * columns;
  if (row >= rows) return;
#pragma unroll 2
  for (std::int64_t i = (threadIdx.x % 32) * V; i < columns; i += 32 * V) {
    Floats<V> v = load<V>(x + at + i);
    const Floats<V> b = load<V>(branch + at + i), s = scale_at<V>(scale, scalar, i);
#pragma unroll
    for (int k = 0; k < V; ++k) v.v[k] += s.v[k] * b.v[k];
    y.put(at + i, v);
  }
}

/// da = s . dy, and the summand dy . a.
template <class T, int V>
struct Gradient {
  const T *branch, *dy;
  const float* scale;
  bool scalar, wants_sum;
  Out<T> da;
  Floats<V> s{};
  __device__ void begin(std::int64_t i) { s = scale_at<V>(scale, scalar, i); }
  __device__ Floats<V> operator()(std::int64_t, std::int64_t at, std::int64_t) const {
    const Floats<V> g = load<V>(dy + at);
    Floats<V> summand = wants_sum ? load<V>(branch + at) : filled<V>(0), d;
#pragma unroll
    for (int k = 0; k < V; ++k) d.v[k] = s.v[k] * g.v[k], summand.v[k] *= g.v[k];
    da.put(at, d);
    return summand;
  }
};

}  // namespace

void scaled_residual(const Target& t, Storage storage, std::int64_t rows, std::int64_t columns, const void* x,
                     const void* branch, const float* scale, bool scalar, Output y) {
  if (!y) return;
  with_width(storage, columns, {x, branch, scalar ? nullptr : scale, y.data}, [&](auto zero, auto width) {
    using T = decltype(zero);
    forward<T, decltype(width)::value><<<blocks_for(rows, block_warps), block_threads, 0, t.stream>>>(
        rows, columns, static_cast<const T*>(x), static_cast<const T*>(branch), scale, scalar, out<T>(y));
  });
}

void scaled_residual_backward(const Target& t, Storage storage, const Pieces& pieces, std::int64_t columns,
                              const void* branch, const float* scale, bool scalar, const void* dy, Output da,
                              Output ds, float* partial) {
  if (!da && !ds) return;
  with_width(storage, columns, {branch, scalar ? nullptr : scale, dy, da.data}, [&](auto zero, auto width) {
    using T = decltype(zero);
    constexpr int v = decltype(width)::value;
    const Gradient<T, v> body{
        static_cast<const T*>(branch), static_cast<const T*>(dy), scale, scalar, bool(ds), out<T>(da)};
    column_sums<v>(t, pieces, columns, body, ds ? partial : nullptr);
  });
  if (scalar)
    sum_all_partials(t, partial, pieces.count * columns, ds);
  else
    sum_partials(t, partial, pieces.count, columns, columns, nullptr, ds);
}

}  // namespace fairway::ops::cuda
