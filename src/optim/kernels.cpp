#include "kernels.h"

#include <cmath>

#include "fairway/tensor/dtype.h"
#include "rules/table.h"

// One clone per instruction set, chosen when the program is loaded. Sanitizers and clang do without.
#if defined(__x86_64__) && defined(__GNUC__) && !defined(__clang__) && !defined(__SANITIZE_ADDRESS__)
#define FAIRWAY_CLONES __attribute__((target_clones("default", "arch=x86-64-v3", "arch=x86-64-v4")))
#else
#define FAIRWAY_CLONES
#endif

namespace fairway::optim::kernels {
namespace {

using tensor::round_to_bf16;

template <class Rule>
[[gnu::always_inline]] inline void update_elements(const rules::Scalars s, float clip, float* __restrict p,
                                                   const float* __restrict g, float* __restrict m,
                                                   float* __restrict v, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    float none = 0;
    Rule::apply(s, clip, p[i], g[i], m[i], Rule::moments > 1 ? v[i] : none);
  }
}

}  // namespace

FAIRWAY_CLONES void update(RuleKind kind, rules::Rounding rounding, const rules::Scalars& scalars, float clip,
                           float* values, const float* gradients, float* first, float* second,
                           std::int64_t n) {
  rules::with_rule(
      kind, rounding, [&]<class Rule>(Rule) __attribute__((always_inline)) {
        update_elements<Rule>(scalars, clip, values, gradients, first, second, n);
      });
}

FAIRWAY_CLONES void nesterov(const float* __restrict g, float* __restrict buffer, float* __restrict out,
                             std::int64_t n, float mu, float factor) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float gradient = factor * g[i];
    buffer[i] = mu * buffer[i] + gradient;
    out[i] = gradient + mu * buffer[i];
  }
}

FAIRWAY_CLONES void apply(float* __restrict w, const float* __restrict o, std::int64_t n, float decay,
                          float step) {
  for (std::int64_t i = 0; i < n; ++i) w[i] = w[i] * decay - step * o[i];
}

FAIRWAY_CLONES double sum_of_squares(const float* x, std::int64_t n) {
  constexpr int lanes = 16;
  double sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int j = 0; j < lanes; ++j) {
      const double value = x[i + j];
      sums[j] += value * value;
    }
  for (; i < n; ++i) sums[i % lanes] += static_cast<double>(x[i]) * x[i];
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

FAIRWAY_CLONES void divide(float* x, std::int64_t n, float divisor) {
  for (std::int64_t i = 0; i < n; ++i) x[i] /= divisor;
}

FAIRWAY_CLONES void add_scaled(const float* __restrict x, float a, float* __restrict sum, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) sum[i] += a * x[i];
}

FAIRWAY_CLONES void combine(const float* x, float a, const float* y, float b, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = a * x[i] + b * y[i];
}

FAIRWAY_CLONES void combine_bf16(const float* x, float a, const float* y, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = round_to_bf16(round_to_bf16(a * x[i]) + y[i]);
}

FAIRWAY_CLONES void scale_bf16(const float* x, float factor, float* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = round_to_bf16(x[i] * factor);
}

FAIRWAY_CLONES void divide_bf16(float* x, std::int64_t n, float divisor) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = round_to_bf16(x[i] / divisor);
}

FAIRWAY_CLONES void round_bf16(float* x, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) x[i] = round_to_bf16(x[i]);
}

FAIRWAY_CLONES void to_bf16(const float* __restrict x, tensor::bf16* __restrict out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = tensor::to_bf16(x[i]);
}

FAIRWAY_CLONES void from_bf16(const tensor::bf16* __restrict x, float* __restrict out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = tensor::to_float(x[i]);
}

FAIRWAY_CLONES void to_bf16_scaled(const float* __restrict x, float factor, tensor::bf16* __restrict out,
                                   tensor::bf16* __restrict scaled, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i) {
    out[i] = tensor::to_bf16(x[i]);
    scaled[i] = tensor::to_bf16(tensor::to_float(out[i]) * factor);
  }
}

FAIRWAY_CLONES void combine_to_bf16(const tensor::bf16* x, float a, const float* __restrict y,
                                    tensor::bf16* out, std::int64_t n) {
  for (std::int64_t i = 0; i < n; ++i)
    out[i] = tensor::to_bf16(round_to_bf16(a * tensor::to_float(x[i])) + round_to_bf16(y[i]));
}

}  // namespace fairway::optim::kernels
