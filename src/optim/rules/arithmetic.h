#pragma once
// Arithmetic of the rules, the same to the bit on the CPU and on a GPU: no operation may be joined with
// another to a fused one. Kernels wait for memory; the extra instructions cost nothing.

#include <cmath>
#include <cstdint>

#include "fairway/tensor/dtype.h"

#ifdef __CUDACC__
#include <cuda_bf16.h>
#define FAIRWAY_RULE __host__ __device__ __forceinline__
#else
#define FAIRWAY_RULE [[gnu::always_inline]] inline
#endif

namespace fairway::optim::rules {

#ifdef __CUDA_ARCH__
FAIRWAY_RULE float mul(float a, float b) { return __fmul_rn(a, b); }
FAIRWAY_RULE float add(float a, float b) { return __fadd_rn(a, b); }
FAIRWAY_RULE float divide(float a, float b) { return __fdiv_rn(a, b); }
FAIRWAY_RULE float root(float x) { return __fsqrt_rn(x); }
FAIRWAY_RULE double mul(double a, double b) { return __dmul_rn(a, b); }
FAIRWAY_RULE double add(double a, double b) { return __dadd_rn(a, b); }
FAIRWAY_RULE float round_bf16(float x) { return __bfloat162float(__float2bfloat16_rn(x)); }
#else  // compiled without fused operations
FAIRWAY_RULE float mul(float a, float b) { return a * b; }
FAIRWAY_RULE float add(float a, float b) { return a + b; }
FAIRWAY_RULE float divide(float a, float b) { return a / b; }
FAIRWAY_RULE float root(float x) { return std::sqrt(x); }
FAIRWAY_RULE double mul(double a, double b) { return a * b; }
FAIRWAY_RULE double add(double a, double b) { return a + b; }
FAIRWAY_RULE float round_bf16(float x) { return tensor::round_to_bf16(x); }
#endif
/// a x + b y
FAIRWAY_RULE float combine(float a, float x, float b, float y) { return add(mul(a, x), mul(b, y)); }

/// What is rounded to bf16: nothing; values and moments when they are stored; every operation's result.
enum class Rounding : std::int32_t { none, stores, operations };

/// A stored number, and an operation's result.
template <Rounding R>
FAIRWAY_RULE float stored(float x) {
  return R == Rounding::none ? x : round_bf16(x);
}
template <Rounding R>
FAIRWAY_RULE float result(float x) {
  return R == Rounding::operations ? round_bf16(x) : x;
}

}  // namespace fairway::optim::rules
