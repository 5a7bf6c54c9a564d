#pragma once
// How a warp holds a row: in registers where it fits, read twice (from the cache, the second time) where not.

#include "cuda/launch.cuh"

namespace fairway::ops::cuda {

/// Calls f(T{}, Constant<V>{}, Constant<C>{}) for rows of input 0: those of at most 32 V C columns stay in
/// registers, C chunks of V per lane; with C = 0 they are read again. `pointers`: whatever is read or written
/// V at a time.
template <class F>
void with_row_shape(const KernelArgs& a, std::initializer_list<const void*> pointers, const F& f) {
  dispatch(a, a.in[0], [&]<class T>(T zero) {
    constexpr int v = wide<T>;
    const std::int64_t columns = a.in[0].shape().columns();
    const bool whole = fits(columns, v, pointers);
    if (whole && columns <= 512) return f(zero, Constant<v>{}, Constant<16 / v>{});
    if constexpr (v == 8)
      if (whole && columns <= 1024) return f(zero, Constant<v>{}, Constant<4>{});
    f(zero, Constant<1>{}, Constant<0>{});
  });
}

/// Factors of dy and x for a row: dx = g' - x (x . g') r^2 / D with g' = scale r dy, or dy itself where it
/// came prescaled. `dot` is this lane's part of x . dy.
struct RowFactors {
  float dy = 0, x = 0;
};
__device__ inline RowFactors row_factors(float r, float scale, bool prescaled, float dot,
                                         std::int64_t columns) {
  const float by_dy = prescaled ? 1.0f : scale * r;
  return {by_dy, by_dy * (lane_sum(dot) * r * r / static_cast<float>(columns))};
}

/// m = a . (u + k . s) + b . x0, without k for rows that have no skip connection. One order of roundings, so
/// that backward makes the m that forward stored.
template <int V>
__device__ Floats<V> mixed(Floats<V> u, const Floats<V>& x0, const Floats<V>& a, const Floats<V>& b) {
#pragma unroll
  for (int j = 0; j < V; ++j) u.v[j] = fmaf(a.v[j], u.v[j], b.v[j] * x0.v[j]);
  return u;
}
template <int V>
__device__ Floats<V> with_skip(Floats<V> u, const Floats<V>& s, const Floats<V>& k) {
#pragma unroll
  for (int j = 0; j < V; ++j) u.v[j] = fmaf(k.v[j], s.v[j], u.v[j]);
  return u;
}

}  // namespace fairway::ops::cuda
