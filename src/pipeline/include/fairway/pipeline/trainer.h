#pragma once
// The training loop: micro-steps, optimiser, averages, metrics, checkpoints.

#include "fairway/pipeline/corpus.h"
#include "fairway/pipeline/engine.h"
#include "fairway/pipeline/recipe.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

namespace fairway::pipeline {

/// One line of the metrics log.
struct StepMetrics {
  std::int64_t step = 0;  ///< completed steps, counted from 1
  double loss = 0;        ///< nats per token, mean over the step's batch
  double gradient_norm = 0;
  double lr_scale = 0;
  double seconds = 0;  ///< training time so far
  double tokens_per_second = 0;
  std::optional<double> validation_loss;
};

struct TrainOutcome {
  std::int64_t steps = 0;
  double last_loss = 0;
  double seconds = 0;            ///< training time, validation and checkpoints not counted
  double tokens_per_second = 0;  ///< over the whole run
  double start_seconds = 0;      ///< from construction to the first step
  std::int64_t parameters = 0;
  bool interrupted = false;
};

struct TrainerHooks {
  std::function<void(const StepMetrics&)> on_step;
};

/// Owns weights, gradients, optimiser state, programs and the loader of one run.
class Trainer {
 public:
  /// `corpus` and `engine` must outlive the trainer. Weights are fresh, or from recipe.train.init.
  Trainer(const Recipe& recipe, const Corpus& corpus, Engine& engine);
  ~Trainer();

  /// Runs until the last step, the end of the budget, or a stop request (the step is finished). A NaN or
  /// infinity in loss or gradients is a failure that names the step; the weights are then those before it.
  TrainOutcome run(const TrainerHooks& hooks, const std::filesystem::path& checkpoint);

  void save(const std::filesystem::path& checkpoint);
  /// Continues from a checkpoint of the same recipe, to the same bytes as a run that was never stopped.
  void restore(const std::filesystem::path& checkpoint);

  /// Weights as exported (averaged), without gradients.
  std::unique_ptr<graph::ParameterStore> exported_weights();
  graph::ParameterStore& weights();
  std::vector<graph::MemoryLine> memory_table() const;
  int micro_batch_rows() const;
  std::int64_t steps_done() const;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Rows of a micro-step: the recipe's, or the most that keep its activations within a cache-friendly token
/// count.
int micro_batch_rows(const Recipe& recipe);

}  // namespace fairway::pipeline
