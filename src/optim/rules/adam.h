#pragma once
#include "rules/scalars.h"

namespace fairway::optim::rules {

/// AdamW, and Adam, whose weight decay joins the gradient (docs/spec/training.md section 3). With k counted
/// from 1 and g after clipping:
///   p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
///   p <- p - lr (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps).
/// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
template <Rounding R>
struct Adam {
  static constexpr int moments = 2;
  static constexpr bool counts = true;
  static constexpr const char* names[] = {"m", "v"};

  FAIRWAY_RULE static void apply(const Scalars& s, float clip, float& p, float g, float& m, float& v) {
    const float gradient = combine(g, clip, s.coupled_decay, p);
    const float first = combine(s.beta1, m, s.one_minus_beta1, gradient);
    const float second = combine(s.beta2, v, s.one_minus_beta2, mul(gradient, gradient));
    const float denominator = add(root(divide(second, s.correction2)), s.eps);
    const float step = mul(s.lr, divide(divide(first, s.correction1), denominator));
    p = stored<R>(add(mul(p, s.decay), -step));
    m = stored<R>(first);
    v = stored<R>(second);
  }
};

/// As PyTorch's unfused optimisers run it on bf16 tensors (docs/spec/ttt.md section 2). With R(x) rounding:
///   g <- R(R(g) clip);  p <- R(p decay);  m <- R(m + (1 - b1)(g - m));  v <- R(R(b2 v) + (1 - b2) g^2);
///   d <- R(R(R(sqrt(v)) / sqrt(1 - b2^k)) + eps);  p <- R(p - lr / (1 - b1^k) m / d).
/// R(b2 v) returns v itself for b2 = 0.999, so that v never decays.
template <>
struct Adam<Rounding::operations> {
  static constexpr int moments = 2;
  static constexpr bool counts = true;
  static constexpr const char* names[] = {"m", "v"};

  FAIRWAY_RULE static void apply(const Scalars& s, float clip, float& p, float g, float& m, float& v) {
    float gradient = round_bf16(mul(round_bf16(g), clip));
    if (s.coupled_decay != 0.0f) gradient = round_bf16(add(gradient, mul(s.coupled_decay, p)));
    const float decayed = s.decay != 1.0f ? round_bf16(mul(p, s.decay)) : p;
    m = round_bf16(add(m, mul(s.one_minus_beta1, add(gradient, -m))));
    v = round_bf16(add(round_bf16(mul(v, s.beta2)), mul(mul(s.one_minus_beta2, gradient), gradient)));
    const float denominator =
        round_bf16(add(round_bf16(divide(round_bf16(root(v)), s.root_correction2)), s.eps));
    p = round_bf16(add(decayed, -mul(s.lr_corrected, divide(m, denominator))));
  }
};

}  // namespace fairway::optim::rules
