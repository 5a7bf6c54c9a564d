#pragma once
// The table of element-wise rules. To add one: its kind and name in update_rule.h, its formula in a file
// here, its line below. Both the CPU's loop (kernels.cpp) and the GPU's kernel (cuda/update.cu) run it.
//
// A rule is a template of Rounding with
//   apply(scalars, clip, p, g, m, v)  the update of one element with up to two moments
//   moments, names                    how many of them, and what they are called in saved state
//   counts                            whether the number of steps is state ("step")

#include "rules/adam.h"
#include "rules/sgd.h"

namespace fairway::optim::rules {

template <template <Rounding> class Rule, class Visit>
FAIRWAY_RULE void with_rounding(Rounding rounding, const Visit& visit) {
  switch (rounding) {
    case Rounding::none:
      return visit(Rule<Rounding::none>{});
    case Rounding::stores:
      return visit(Rule<Rounding::stores>{});
    case Rounding::operations:
      return visit(Rule<Rounding::operations>{});
  }
}

/// Calls visit(rule) with the rule of that kind; Muon's, which is none of elements, does nothing.
template <class Visit>
FAIRWAY_RULE void with_rule(RuleKind kind, Rounding rounding, const Visit& visit) {
  switch (kind) {
    case RuleKind::adamw:
    case RuleKind::adam:
      return with_rounding<Adam>(rounding, visit);
    case RuleKind::sgd:
      return with_rounding<Sgd>(rounding, visit);
    case RuleKind::muon:
      return;
  }
}

constexpr Rounding rounding_of(const UpdateRule& rule, tensor::DType storage) {
  if (storage != tensor::DType::bf16) return Rounding::none;
  return rule.stepwise ? Rounding::operations : Rounding::stores;
}

}  // namespace fairway::optim::rules
