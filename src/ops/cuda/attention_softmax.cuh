#pragma once
#include <cmath>

#include "tma.cuh"

// What attention_forward.cu makes of a thread's scores: weights of two rows (accumulators as wgmma.cuh lays
// them out), with the reference that their exponentials need either found on the way or known beforehand.
namespace fairway::ops::cuda {
namespace {

constexpr float kLn2 = 0.6931471805599453F;

/// Sums of a thread's two rows of exp2(score * scale - top); scores in units of log2. `top` is the running
/// maximum.
struct RunningTop {
  float top[2] = {-INFINITY, -INFINITY}, sum[2] = {0, 0}, factor[2] = {1, 1};
  /// The reference maximum lags behind the true one by at most this much (2^8 in P and its sum is harmless),
  /// so that the accumulators are rescaled rarely.
  static constexpr float slack = 8;

  /// True (for the whole warp) when the sums before need `factor`.
  template <int N>
  __device__ bool apply(float (&s)[N], float scale) {
    float high[2] = {s[0], s[2]};
#pragma unroll
    for (int i = 0; i < N; i += 4) {
      high[0] = fmaxf(high[0], fmaxf(s[i], s[i + 1]));
      high[1] = fmaxf(high[1], fmaxf(s[i + 2], s[i + 3]));
    }
#pragma unroll
    for (int r = 0; r < 2; ++r) {
      high[r] = fmaxf(high[r], __shfl_xor_sync(0xFFFFFFFF, high[r], 1));
      high[r] = fmaxf(high[r], __shfl_xor_sync(0xFFFFFFFF, high[r], 2)) * scale;
    }
    const bool rescale = __any_sync(0xFFFFFFFF, high[0] > top[0] + slack || high[1] > top[1] + slack);
    if (rescale) {
#pragma unroll
      for (int r = 0; r < 2; ++r) {
        const float next = fmaxf(top[r], high[r]);
        factor[r] = top[r] == -INFINITY ? 0 : exp2_fast(top[r] - next);
        top[r] = next;
        sum[r] *= factor[r];
      }
    }
    const float base[2] = {top[0] == -INFINITY ? 0 : -top[0], top[1] == -INFINITY ? 0 : -top[1]};
    float part[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < N; ++i) {
      s[i] = exp2_fast(fmaf(s[i], scale, base[i / 2 % 2]));
      part[i % 4] += s[i];
    }
    sum[0] += part[0] + part[1], sum[1] += part[2] + part[3];
    return rescale;
  }
};

/// The greatest score that the norms allow is mapped to 2^kHeadroom; where it is at most 2^kMost, the least
/// one is still a normal number (2^-112), and sums have room above.
constexpr float kHeadroom = 80, kMost = 96;

/// The same with `top` known beforehand, so that nothing is compared, exchanged or rescaled.
struct KnownTop {
  float top[2], sum[2] = {0, 0}, factor[2] = {1, 1};
  explicit __device__ KnownTop(float2 tops) : top{tops.x, tops.y} {}

  template <int N>
  __device__ bool apply(float (&s)[N], float scale) {
    float part[4] = {0, 0, 0, 0};
#pragma unroll
    for (int i = 0; i < N; ++i) {
      s[i] = exp2_fast(fmaf(s[i], scale, -top[i / 2 % 2]));
      part[i % 4] += s[i];
    }
    sum[0] += part[0] + part[1], sum[1] += part[2] + part[3];
    return false;
  }
};

/// The natural logarithm of 2^top total: the exponents are added as whole numbers.
__device__ float log_sum(float top, float total) {
  if (!(total > 0)) return -INFINITY;
  const int bits = __float_as_int(total);
  const float fraction = __int_as_float((bits & 0x007FFFFF) | 0x3F800000);
  return (top + float((bits >> 23) - 127) + log2f(fraction)) * kLn2;
}

/// KnownTop's reference for a thread's two rows of a warp's 16 x 64 tile of queries: whole numbers, so that
/// lse keeps its last bits. Two lanes share a row; the order of its 16-byte chunks does not matter.
__device__ float2 known_tops(std::uint32_t tile, float bound) {
  const int lane = threadIdx.x % 32, row = lane / 2;
  float squares = 0;
#pragma unroll
  for (int i = 0; i < 4; ++i) {
    std::uint32_t x[4];
    load_shared(tile + row * 128 + (lane + 2 * i) % 8 * 16, x);
#pragma unroll
    for (int e = 0; e < 4; ++e) {
      const float low = __uint_as_float(x[e] << 16), high = __uint_as_float(x[e] & 0xFFFF0000U);
      squares = fmaf(low, low, fmaf(high, high, squares));
    }
  }
  squares += __shfl_xor_sync(0xFFFFFFFF, squares, 1);
  const float own = ceilf(sqrtf(squares) * bound) - kHeadroom;
  return {__shfl_sync(0xFFFFFFFF, own, lane / 4 * 2), __shfl_sync(0xFFFFFFFF, own, 16 + lane / 4 * 2)};
}

}  // namespace
}  // namespace fairway::ops::cuda
