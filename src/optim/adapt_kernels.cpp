#include "adapt_kernels.h"

#include <cmath>

#include "fairway/tensor/dtype.h"

namespace fairway::optim::kernels {

using tensor::round_to_bf16;

void sgd_f32(float* __restrict p, const float* __restrict g, float* __restrict v, std::int64_t n, float mu,
             float lr, float scale) {
  for (std::int64_t i = 0; i < n; ++i) {
    v[i] = mu * v[i] + scale * g[i];
    p[i] -= lr * v[i];
  }
}

void sgd_stepwise_bf16(float* __restrict p, const float* __restrict g, float* __restrict v, std::int64_t n,
                       float mu, float lr, float scale) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float gradient = round_to_bf16(round_to_bf16(g[i]) * scale);
    v[i] = round_to_bf16(round_to_bf16(mu * v[i]) + gradient);
    p[i] = round_to_bf16(p[i] - lr * v[i]);
  }
}

void adam_stepwise_bf16(float* __restrict p, const float* __restrict g, float* __restrict m,
                        float* __restrict v, std::int64_t n, const StepwiseScalars& s) {
  for (std::int64_t i = 0; i < n; ++i) {
    float gradient = round_to_bf16(round_to_bf16(g[i]) * s.gradient_scale);
    if (s.coupled_decay != 0.0f) gradient = round_to_bf16(gradient + s.coupled_decay * p[i]);
    const float before = s.decay != 1.0f ? round_to_bf16(p[i] * s.decay) : p[i];
    const float first = round_to_bf16(m[i] + s.one_minus_beta1 * (gradient - m[i]));
    const float decayed = round_to_bf16(v[i] * s.beta2);
    const float second = round_to_bf16(decayed + s.one_minus_beta2 * gradient * gradient);
    const float root = round_to_bf16(round_to_bf16(std::sqrt(second)) / s.root);
    const float denominator = round_to_bf16(root + s.eps);
    m[i] = first;
    v[i] = second;
    p[i] = round_to_bf16(before - s.lr_corrected * (first / denominator));
  }
}

}  // namespace fairway::optim::kernels
