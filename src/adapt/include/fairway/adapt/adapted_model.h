#pragma once
// The model of an adaptation: a model on a device with a training program for each phase, and steps that are
// queued and collected in order.

#include <cstdint>
#include <deque>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "fairway/adapt/selection.h"
#include "fairway/dist/communicator.h"
#include "fairway/exec/window_programs.h"
#include "fairway/score/seen_targets.h"

namespace fairway::adapt {

struct AdaptedModelOptions {
  /// The most windows that a step or a call of the scorer has; programs are no larger.
  std::int64_t train_windows = 1, score_windows = 1;
  bool fake_quantize = false;               ///< training sees int6 matrices
  std::vector<Selection> phases;            ///< one training program each
  std::vector<std::int32_t> score_lengths;  ///< one scoring program each
  bool logits = false;                      ///< a program for whole distributions
  std::optional<exec::Form> form = {};      ///< for tests; none: the engine's
};

/// A window to learn from and its part in the step's mean.
struct WeightedWindow {
  score::TrainingWindow lesson;
  double weight = 0;  ///< of the window's mean loss
};

class AdaptedModel {
 public:
  /// Copies `weights`; tables that a phase keeps in bf16 are rounded. `engine` must outlive the model.
  AdaptedModel(const model::ModelConfig& config, const graph::ParameterStore& weights,
               const exec::Engine& engine, AdaptedModelOptions options);

  exec::ModelRunner& runner() { return runner_; }  ///< weights and snapshots
  score::WindowScorer& scorer() { return scorer_; }
  int train_rows() const { return train_rows_; }
  /// Queues an optimiser step of a phase on any number of windows: gradients of the sum of weight * mean loss
  /// of each window, their sum over `ranks`, the update. When a gradient is not finite, neither this nor the
  /// steps in the queue behind it change anything. At most depth() + 1 steps are queued.
  void step(int phase, std::span<const WeightedWindow> lessons, optim::Optimizer& optimizer, double lr,
            dist::Communicator& ranks);
  struct StepOutcome {
    double loss = 0;  ///< the sum above, of this rank's windows
    optim::GradientNorm gradient;
  };
  /// Of the oldest queued step; waits for it.
  StepOutcome collect();
  int queued() const { return static_cast<int>(queue_.size()); }
  /// Steps that may be queued before one is collected: more than 0 keep a GPU busy.
  int depth() const { return runner_.depth(); }
  /// Soft-capped logits [S, V] of one window; needs `logits`. Valid until the next call.
  std::span<const float> logits(std::span<const std::int32_t> inputs);

  /// Gradients of a phase's parameters in the last step.
  std::vector<std::span<float>> gradients(int phase);
  std::unique_ptr<optim::Optimizer> make_optimizer(int phase);
  const graph::Program& training_program(int phase) const { return trainer(phase); }

  /// Seconds of so much work, from some of it on tokens of no text; weights are as before.
  double forecast_batches(int phase, double count);  ///< forward and backward of train_rows() windows
  /// What a step does once, with an optimiser of its own.
  double forecast_updates(int phase, double count);
  double forecast_scoring(int score_last, double count);  ///< calls of the scorer

 private:
  graph::Program& trainer(int phase) const { return *trainers_.at(static_cast<std::size_t>(phase)); }
  double forecast(double calls, const std::function<void()>& call) const;

  const exec::Engine& engine_;
  const AdaptedModelOptions options_;
  const int train_rows_;
  exec::ModelRunner runner_;
  exec::WindowPrograms scorer_;
  std::vector<graph::Program*> trainers_;  ///< by phase
  graph::Program* logits_program_ = nullptr;
  std::deque<optim::Optimizer*> queue_;  ///< of the steps on their way
  std::vector<float> logits_;
};

}  // namespace fairway::adapt
