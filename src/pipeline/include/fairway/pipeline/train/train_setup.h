#pragma once
// What a recipe says to the parts of a training step: for the trainer and for benchmarks that time those
// parts.

#include "fairway/graph/compute_weights.h"
#include "fairway/ops/operator.h"
#include "fairway/optim/training.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/pipeline/train/train_backend.h"

#include <functional>
#include <optional>
#include <span>
#include <string_view>

namespace fairway::pipeline {

/// The schedule of a recipe.
optim::LrSchedule lr_schedule(const Recipe& recipe);
/// What the optimiser does in a step.
optim::StepValues step_values(const Recipe& recipe, const StepPlan& plan);

/// What a step reads of the training stream.
data::BatchShape batch_shape(const Recipe& recipe);

/// Which parameters go to Muon and which to AdamW, by the groups that the model gave them.
optim::TrainedParameters trained_parameters(const graph::ParameterLayout& layout);
/// The whole optimiser, averages included.
optim::OptimizerConfig optimizer_config(const Recipe& recipe, const graph::ParameterLayout& layout);
/// The average that a run keeps, if any; how many snapshots or updates are in it; its values on the host,
/// rounded as they are stored, or nothing while there is none.
std::optional<optim::Average> average_of(const Recipe& recipe);
std::int64_t average_count(const Recipe& recipe, optim::Optimizer& optimizer);
std::optional<std::vector<float>> read_average(const Recipe& recipe, optim::Optimizer& optimizer,
                                               const graph::ParameterLayout& layout);

/// Rounds what the recipe stores in bf16 of a flat buffer.
void round_tables(const Recipe& recipe, const graph::ParameterLayout& layout, std::span<float> flat);

/// What a run starts from: fresh weights of the recipe's seed, with rows of fused markers made of the tokens
/// that they stand for, or those of train.init; tables rounded as they are stored.
void initial_weights(const Recipe& recipe, graph::ParameterStore& store, base::ThreadPool& pool);

/// The row of a token for `space` and `marker`: 0.4 of one and 0.6 of the other, as long as the marker's
/// (PR 2109, docs/spec/leaders.md section 6).
std::vector<float> fused_row(std::span<const float> space, std::span<const float> marker);

/// The row quantiser's q of a matrix under [qat].
graph::QuantLevels qat_levels(const Recipe& recipe);

/// Weights of the targets of whole windows in a step's mean loss: 0 for those under memory tokens, equal for
/// the others.
void target_weights(const Recipe& recipe, std::span<float> weights);

}  // namespace fairway::pipeline
