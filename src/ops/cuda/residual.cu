#include "cuda/column_sums.cuh"
#include "cuda/launch.cuh"

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

void scaled_residual(const KernelArgs& a) {
  if (!a.out[0]) return;
  const Shape& x = a.in[0].shape();
  const float* scale = floats(a, 2);
  const bool scalar = a.in[2].elements() == 1;
  with_width(a, a.in[0], x.columns(), {data(a, 0), data(a, 1), scalar ? nullptr : scale, a.out[0].data},
             [&]<class T, int V>(T, Constant<V>) {
               launch_rows(a, x.rows(), forward<T, V>, x.rows(), x.columns(), in<T>(a, 0), in<T>(a, 1), scale,
                           scalar, out<T>(a, 0));
             });
}

void scaled_residual_backward(const KernelArgs& a) {
  const Output da = output(a, 0), ds = output(a, 1);
  if (!da && !ds) return;
  const std::int64_t columns = a.in[0].shape().columns();
  const float* scale = floats(a, 1);
  const bool scalar = a.in[1].elements() == 1;
  const RowSplits p = split_rows_on_device(a.in[0].shape().rows());
  with_width(a, a.in[0], columns, {data(a, 0), scalar ? nullptr : scale, data(a, 2), da.data},
             [&]<class T, int V>(T, Constant<V>) {
               const Gradient<T, V> body{in<T>(a, 0), in<T>(a, 2), scale, scalar, bool(ds), out<T>(da)};
               column_sums<V>(a, p, columns, body, bool(ds));
             });
  if (scalar)
    sum_all_partials(target(a), partials(a), p.count * columns, ds);
  else
    sum_partials(target(a), partials(a), p.count, columns, columns, nullptr, ds);
}

}  // namespace fairway::ops::cuda
