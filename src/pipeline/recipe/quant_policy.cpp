#include "recipe/quant_policy.h"

#include "fairway/base/error.h"
#include "fairway/quant/hadamard.h"

namespace fairway::pipeline {

quant::TensorInfo tensor_info(const graph::Parameter& p) {
  using enum quant::Category;
  auto category = table;
  if (p.role == graph::Role::attention || p.role == graph::Role::projection) category = attention;
  if (p.role == graph::Role::mlp) category = mlp;
  if (p.name.ends_with("attn_gate_w")) category = gate;
  return {p.name, p.shape, category};
}

quant::QuantPolicy written_policy(const QuantConfig& c) {
  auto policy = c.policy;
  for (const auto& rule : c.rules) policy.overrides.push_back(quant::parse_override("quant.rules", rule));
  return policy;
}

void validate_policy(const QuantConfig& config, const graph::ParameterLayout& layout) {
  const auto policy = written_policy(config);
  for (const auto& p : layout.parameters()) {
    const auto info = tensor_info(p);
    const auto& rule = policy.rule_for(info);
    if (rule.quantize) continue;
    if (!p.multiplied)
      base::fail_input(
          "quant: {} would be stored by {}, which needs the Hessian of what a tensor multiplies, and it "
          "multiplies nothing; give it another rule: quant.rules = [\"{}=int8\"]",
          p.name, rule.name, p.name);
    if (policy.rotates(info)) quant::check_rotatable(p.name, p.shape.columns());
  }
}

}  // namespace fairway::pipeline
