#pragma once
// What a recipe says to the parts of a training step: for the trainer and for benchmarks that time those
// parts.

#include "fairway/graph/parameters.h"
#include "fairway/ops/operator.h"
#include "fairway/optim/optimizer.h"
#include "fairway/pipeline/recipe.h"

namespace fairway::pipeline {

/// The optimiser's settings of a recipe, schedule included.
optim::OptimizerConfig optimizer_config(const Recipe& recipe);

/// Which parameters go to Muon and which to AdamW, by the groups that the model gave them.
optim::ParameterMap parameter_map(const graph::ParameterLayout& layout);

/// What matrix products of forward and backward round their operands to.
ops::Products products(const Recipe& recipe);

}  // namespace fairway::pipeline
