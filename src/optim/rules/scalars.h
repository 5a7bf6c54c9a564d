#pragma once
#include "fairway/optim/update_rule.h"
#include "rules/arithmetic.h"

namespace fairway::optim::rules {

/// A range's numbers in one step, the k-th counted from 1.
struct Scalars {
  float lr;
  float decay, coupled_decay;  ///< what values are multiplied by; what of them is added to the gradient
  float beta1, one_minus_beta1, beta2, one_minus_beta2, eps, momentum;
  float correction1, correction2;        ///< 1 - beta^k
  float root_correction2, lr_corrected;  ///< sqrt(correction2); lr / correction1
};

/// In double, each rounded once.
FAIRWAY_RULE Scalars scalars_of(const UpdateRule& rule, double lr, std::int64_t k) {
  const bool coupled = rule.kind == RuleKind::adam;
  const double steps = static_cast<double>(k);
  const double correction1 = 1.0 - pow(rule.beta1, steps), correction2 = 1.0 - pow(rule.beta2, steps);
  Scalars s;
  s.lr = static_cast<float>(lr);
  s.decay = coupled ? 1.0f : static_cast<float>(add(1.0, -mul(lr, rule.weight_decay)));
  s.coupled_decay = coupled ? static_cast<float>(rule.weight_decay) : 0.0f;
  s.beta1 = static_cast<float>(rule.beta1);
  s.one_minus_beta1 = static_cast<float>(1.0 - rule.beta1);
  s.beta2 = static_cast<float>(rule.beta2);
  s.one_minus_beta2 = static_cast<float>(1.0 - rule.beta2);
  s.eps = static_cast<float>(rule.eps);
  s.momentum = static_cast<float>(rule.momentum);
  s.correction1 = static_cast<float>(correction1);
  s.correction2 = static_cast<float>(correction2);
  s.root_correction2 = static_cast<float>(sqrt(correction2));
  s.lr_corrected = static_cast<float>(lr / correction1);
  return s;
}

}  // namespace fairway::optim::rules
