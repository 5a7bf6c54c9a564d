#pragma once
// Element-wise passes of test-time training's optimisers. "Stepwise": the result of every elementary
// operation is rounded to bfloat16, as PyTorch's unfused optimisers do with bf16 parameters (spec/ttt.md
// section 2).

#include <cstdint>

namespace fairway::optim::kernels {

/// v <- mu v + scale g;  p <- p - lr v.
void sgd_f32(float* p, const float* g, float* v, std::int64_t n, float mu, float lr, float scale);
void sgd_stepwise_bf16(float* p, const float* g, float* v, std::int64_t n, float mu, float lr, float scale);

/// Scalars of one Adam step: lr_corrected = lr / (1 - b1^k), root = sqrt(1 - b2^k).
struct StepwiseScalars {
  float gradient_scale, decay, coupled_decay, one_minus_beta1, beta2, one_minus_beta2, root, eps,
      lr_corrected;
};
/// With R(x) rounding to bf16:
///   g <- R(R(g) scale);  p <- R(p decay);  m <- R(m + (1 - b1)(g - m));  v <- R(R(b2 v) + (1 - b2) g^2);
///   d <- R(R(R(sqrt(v)) / root) + eps);  p <- R(p - lr_corrected m / d).
/// R(b2 v) returns v itself for b2 = 0.999, so that v never decays.
void adam_stepwise_bf16(float* p, const float* g, float* m, float* v, std::int64_t n,
                        const StepwiseScalars& s);

}  // namespace fairway::optim::kernels
