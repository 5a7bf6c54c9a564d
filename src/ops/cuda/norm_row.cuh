#pragma once
// How a warp holds a row: in registers where it fits, read twice (from the cache, the second time) where not.

#include "cuda/device.cuh"

namespace fairway::ops::cuda {

/// Calls f(T{}, Constant<V>{}, Constant<C>{}): rows of at most 32 V C columns stay in registers, C chunks of
/// V per lane; with C = 0 they are read again.
template <class F>
void with_row_shape(Storage storage, std::int64_t columns, bool aligned, const F& f) {
  if (storage == Storage::bf16) {
    if (aligned && columns % 8 == 0 && columns <= 512)
      return f(__nv_bfloat16{}, Constant<8>{}, Constant<2>{});
    if (aligned && columns % 8 == 0 && columns <= 1024)
      return f(__nv_bfloat16{}, Constant<8>{}, Constant<4>{});
    return f(__nv_bfloat16{}, Constant<1>{}, Constant<0>{});
  }
  if (aligned && columns % 4 == 0 && columns <= 512) return f(float{}, Constant<4>{}, Constant<4>{});
  f(float{}, Constant<1>{}, Constant<0>{});
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
