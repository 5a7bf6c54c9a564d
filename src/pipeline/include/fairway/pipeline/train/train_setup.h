#pragma once
// What a recipe says to the parts of a training step: for the trainer and for benchmarks that time those
// parts.

#include "fairway/graph/compute_weights.h"
#include "fairway/ops/operator.h"
#include "fairway/optim/optimizer.h"
#include "fairway/pipeline/recipe/recipe.h"

#include <functional>
#include <span>
#include <string_view>

namespace fairway::pipeline {

/// The optimiser's settings of a recipe, schedule included.
optim::OptimizerConfig optimizer_config(const Recipe& recipe);

/// Which parameters go to Muon and which to AdamW, by the groups that the model gave them.
optim::ParameterMap parameter_map(const graph::ParameterLayout& layout);

/// Tables that are stored in bf16; empty when the recipe keeps them in fp32.
std::vector<optim::FlatRange> bf16_ranges(const Recipe& recipe, const graph::ParameterLayout& layout);
/// Rounds those tables of a flat buffer.
void round_tables(const Recipe& recipe, const graph::ParameterLayout& layout, std::span<float> flat);

/// What a run starts from: fresh weights of the recipe's seed, or those of train.init; tables rounded as
/// they are stored.
void initial_weights(const Recipe& recipe, graph::ParameterStore& store, base::ThreadPool& pool);

optim::Ema make_ema(const Recipe& recipe, std::span<const float> initial);

/// The row quantiser's q of a matrix under [qat].
graph::QuantLevels qat_levels(const Recipe& recipe);

/// What matrix products of forward and backward round their operands to.
ops::Products products(const Recipe& recipe);

/// Weights of the targets of whole windows in a step's mean loss: 0 for those under memory tokens, equal for
/// the others.
void target_weights(const Recipe& recipe, std::span<float> weights);

}  // namespace fairway::pipeline
