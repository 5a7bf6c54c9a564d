#pragma once
// What the kernels share: 16-byte accesses over a piece, sums of a block. Arithmetic is that of rules/.

#include <cuda_bf16.h>

#include "cuda/launch.h"
#include "rules/arithmetic.h"

namespace fairway::optim::cuda {

using rules::add, rules::combine, rules::mul, rules::round_bf16;

inline constexpr int threads = 256, warps = threads / 32;
inline constexpr unsigned all_lanes = 0xffffffffu;

/// V elements, widened. T is float or __nv_bfloat16; V is 1 or 4 (then the address is a multiple of 4 T).
template <int V>
struct Floats {
  float v[V];
};

template <int V>
__device__ inline Floats<V> load(const float* p) {
  Floats<V> r;
  if constexpr (V == 4) {
    const float4 q = *reinterpret_cast<const float4*>(p);
    r.v[0] = q.x, r.v[1] = q.y, r.v[2] = q.z, r.v[3] = q.w;
  } else {
    r.v[0] = *p;
  }
  return r;
}
template <int V>
__device__ inline Floats<V> load(const __nv_bfloat16* p) {
  Floats<V> r;
  if constexpr (V == 4) {
    const uint2 q = *reinterpret_cast<const uint2*>(p);
    r.v[0] = __uint_as_float(q.x << 16), r.v[1] = __uint_as_float(q.x & 0xffff0000u);
    r.v[2] = __uint_as_float(q.y << 16), r.v[3] = __uint_as_float(q.y & 0xffff0000u);
  } else {
    r.v[0] = __bfloat162float(*p);
  }
  return r;
}
template <int V>
__device__ inline void store(float* p, const Floats<V>& x) {
  if constexpr (V == 4)
    *reinterpret_cast<float4*>(p) = make_float4(x.v[0], x.v[1], x.v[2], x.v[3]);
  else
    *p = x.v[0];
}
template <int V>
__device__ inline void store(__nv_bfloat16* p, const Floats<V>& x) {
  if constexpr (V == 4) {
    const __nv_bfloat162 low = __floats2bfloat162_rn(x.v[0], x.v[1]);
    const __nv_bfloat162 high = __floats2bfloat162_rn(x.v[2], x.v[3]);
    *reinterpret_cast<uint2*>(p) =
        make_uint2(*reinterpret_cast<const unsigned*>(&low), *reinterpret_cast<const unsigned*>(&high));
  } else {
    *p = __float2bfloat16_rn(x.v[0]);
  }
}

/// What storing x as T makes of it.
template <class T>
__device__ inline float stored(float x) {
  if constexpr (sizeof(T) == 2)
    return round_bf16(x);
  else
    return x;
}

template <int N>
struct Constant {
  static constexpr int value = N;
};

/// Calls body(Constant<V>{}, i) so that all of [0, count) is covered; `offset`, a place in the flat buffers,
/// decides whether four elements can be had at once there.
template <class Body>
__device__ inline void for_elements(std::int64_t offset, int count, const Body& body) {
  int done = 0;
  if (offset % 4 == 0) {
    done = count / 4 * 4;
    for (int i = static_cast<int>(threadIdx.x) * 4; i < done; i += threads * 4) body(Constant<4>{}, i);
  }
  for (int i = done + static_cast<int>(threadIdx.x); i < count; i += threads) body(Constant<1>{}, i);
}

/// The same for the lanes of one warp; `wide`: four elements can be had at once.
template <class Body>
__device__ inline void for_lanes(bool wide, int lane, int count, const Body& body) {
  const int done = wide ? count / 4 * 4 : 0;
  for (int i = lane * 4; i < done; i += 32 * 4) body(Constant<4>{}, i);
  for (int i = done + lane; i < count; i += 32) body(Constant<1>{}, i);
}

/// The sum over a block of `warps` warps, in thread 0: a butterfly in each warp, then warps in order.
__device__ inline double block_sum(double x) {
  __shared__ double sums[32];
#pragma unroll
  for (int half = 16; half > 0; half /= 2) x += __shfl_xor_sync(all_lanes, x, half);
  if (threadIdx.x % 32 == 0) sums[threadIdx.x / 32] = x;
  __syncthreads();
  double total = 0;
  if (threadIdx.x == 0)
    for (unsigned w = 0; w < blockDim.x / 32; ++w) total += sums[w];
  return total;
}

template <int V>
__device__ inline double squares(const Floats<V>& x) {
  double sum = 0;
#pragma unroll
  for (int k = 0; k < V; ++k) sum += static_cast<double>(x.v[k]) * static_cast<double>(x.v[k]);
  return sum;
}

}  // namespace fairway::optim::cuda
