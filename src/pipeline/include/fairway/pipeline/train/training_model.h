#pragma once
// The model that training steps run on: for the backend, and for whoever shows or measures what it runs.

#include "fairway/exec/model_runner.h"
#include "fairway/pipeline/recipe/recipe.h"

namespace fairway::pipeline {

struct TrainingModel {
  int rows = 0;  ///< windows of a micro-batch; packed, they are one row
  std::unique_ptr<exec::ModelRunner> runner;
  graph::Program* program = nullptr;  ///< forward and backward of a micro-batch
  graph::Program* early =
      nullptr;  ///< the same before the layers of the loop run again; null: they always do
};

/// Plans the training program; allocates nothing of it and leaves the weights as they are. The micro-batch is
/// the recipe's, or the largest divisor of the step that full_rate_tokens allow and, on a GPU, whose memory
/// is free. Throws an input error that names the largest that fits.
TrainingModel make_training_model(const Recipe& recipe, const exec::Engine& engine);

}  // namespace fairway::pipeline
