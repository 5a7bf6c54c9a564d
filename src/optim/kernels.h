#pragma once
// Element-wise passes over flat arrays, compiled for several instruction sets. Every operation is a plain
// fp32 (or fp64) operation in a fixed order, so that all of them give the same bits.

#include <cstdint>

#include "fairway/tensor/dtype.h"
#include "rules/scalars.h"

namespace fairway::optim::kernels {

/// Elements a thread handles at a time; results never depend on it, only on the order of fixed blocks in
/// sums.
inline constexpr std::int64_t block = 16'384;

/// One step of an element-wise rule (rules/table.h); `second` is not touched by rules with one moment.
void update(RuleKind kind, rules::Rounding rounding, const rules::Scalars& scalars, float clip, float* values,
            const float* gradients, float* first, float* second, std::int64_t n);

/// buffer <- mu buffer + scale g;  out = scale g + mu buffer.
void nesterov(const float* g, float* buffer, float* out, std::int64_t n, float mu, float scale);
/// w <- w * decay;  w <- w - step * o.
void apply(float* w, const float* o, std::int64_t n, float decay, float step);
/// Sum of squares in fp64 over 16 fixed lanes.
double sum_of_squares(const float* x, std::int64_t n);
void divide(float* x, std::int64_t n, float divisor);
/// sum <- sum + a x.
void add_scaled(const float* x, float a, float* sum, std::int64_t n);
/// out = a x + b y.
void combine(const float* x, float a, const float* y, float b, float* out, std::int64_t n);
/// out = round(round(a x) + y), everything in bf16: what b * A + (c * A) @ A does there.
void combine_bf16(const float* x, float a, const float* y, float* out, std::int64_t n);
void scale_bf16(const float* x, float factor, float* out, std::int64_t n);
void divide_bf16(float* x, std::int64_t n, float divisor);
void round_bf16(float* x, std::int64_t n);

// The same on arrays of bf16.
void to_bf16(const float* x, tensor::bf16* out, std::int64_t n);
void from_bf16(const tensor::bf16* x, float* out, std::int64_t n);
/// out = round(x), scaled = round(factor out).
void to_bf16_scaled(const float* x, float factor, tensor::bf16* out, tensor::bf16* scaled, std::int64_t n);
/// out = round(round(a x) + round(y)); out may be x.
void combine_to_bf16(const tensor::bf16* x, float a, const float* y, tensor::bf16* out, std::int64_t n);

}  // namespace fairway::optim::kernels
