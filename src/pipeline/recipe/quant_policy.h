#pragma once
// What the recipe's rules mean for the model's parameters.

#include "fairway/graph/parameters.h"
#include "fairway/pipeline/recipe/recipe.h"

namespace fairway::pipeline {

/// docs/spec/quantization.md section 1: whatever is neither attention's nor the MLP's nor a gate of heads
/// goes by the rule of tables.
quant::TensorInfo tensor_info(const graph::Parameter& parameter);
/// As the recipe says it, without guided bits.
quant::QuantPolicy written_policy(const QuantConfig& config);
/// An input error for a tensor whose rule can not be followed, before anything is trained: GPTQ of what no
/// product reads, a rotation of a width that is no power of two.
void validate_policy(const QuantConfig& config, const graph::ParameterLayout& layout);

}  // namespace fairway::pipeline
