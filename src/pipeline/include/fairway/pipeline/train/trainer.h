#pragma once
// The training loop: schedule, metrics, validation, checkpoints. A TrainBackend executes the steps.

#include "fairway/exec/engine.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/pipeline/stages/corpus.h"
#include "fairway/pipeline/train/train_backend.h"
#include "fairway/pipeline/train/train_setup.h"
#include "fairway/quant/policy.h"

#include <filesystem>
#include <functional>
#include <memory>
#include <optional>
#include <span>
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
  std::optional<double> roofline;  ///< on a GPU: the least time the step could take, as part of what it took
  bool fake_quantised = false;     ///< late QAT acted in this step
  std::optional<double> validation_loss;
};

/// What ended a training.
enum class TrainEnd {
  schedule,  ///< the last step, or the schedule's clock
  budget,    ///< budget.train_seconds
  replay,    ///< the repeated run ended here
  stopped,   ///< a stop request; the run can go on
};
constexpr auto names_of(TrainEnd) { return base::names<TrainEnd>("schedule", "budget", "replay", "stopped"); }

struct TrainOutcome {
  std::int64_t steps = 0;
  double last_loss = 0;
  double seconds = 0;              ///< training time, validation and checkpoints not counted
  double tokens_per_second = 0;    ///< over the whole run
  std::optional<double> roofline;  ///< as StepMetrics has it, over the whole run
  double start_seconds = 0;        ///< from construction to the first step
  double pause_seconds = 0;        ///< validation and checkpoints of this process
  std::int64_t parameters = 0;
  std::int64_t qat_step = 0;       ///< first step with late QAT (or its inert switch); 0: none
  std::int64_t average_count = 0;  ///< updates or snapshots in the exported average; 0: the last weights
  TrainEnd end = TrainEnd::schedule;
  bool interrupted = false;          ///< end == stopped
  std::vector<std::string> changes;  ///< why the bits differ from one uninterrupted run; empty: they don't
};

/// Takes what training measures: a log, curves, what draws them.
using MetricsSink = std::function<void(const StepMetrics&)>;
using MetricsSinks = std::vector<MetricsSink>;

/// One run's loop and loader, over a backend that owns weights and optimiser state.
class Trainer {
 public:
  /// `corpus` and `engine` must outlive the trainer. Weights are fresh, or from recipe.train.init. `backend`:
  /// none: the one of the engine's device.
  Trainer(const Recipe& recipe, const Corpus& corpus, exec::Engine& engine,
          std::unique_ptr<TrainBackend> backend = nullptr);
  ~Trainer();

  /// Every train.log_every steps, after a validation and at the end `sinks` get the step's metrics, in order.
  /// Runs until the last step, the end of the budget, or a stop request (steps in progress are finished). A
  /// NaN or infinity in loss or gradients is a failure that names the step; the weights are then those before
  /// it.
  TrainOutcome run(const MetricsSinks& sinks, const std::filesystem::path& checkpoint);

  /// Writes a checkpoint and keeps the newest train.keep_checkpoints. A failure when weights are not finite:
  /// the last checkpoint stays the last good state.
  void save(const std::filesystem::path& checkpoint);
  /// Continues from a checkpoint of the same recipe, to the same bytes as a run that was never stopped. A
  /// damaged file falls back to the checkpoint before it, with a warning.
  void restore(const std::filesystem::path& checkpoint);

  /// Repeats the progress of another run of this recipe: elapsed milliseconds at the beginning of each step.
  /// The run ends where that one did.
  void replay(std::vector<double> elapsed_ms);
  /// What replay() of another run takes: one value for each completed step.
  std::span<const double> progress_log() const;

  /// Weights as exported (averaged), without gradients, on the backend's device.
  std::unique_ptr<graph::ParameterStore> exported_weights();
  graph::ParameterStore& weights();                      ///< on the training's device
  std::unique_ptr<graph::ParameterStore> raw_weights();  ///< a copy on the host
  quant::Sensitivity sensitivity();                      ///< for gradient-guided bits; else empty
  std::vector<graph::MemoryLine> memory_table() const;
  int micro_batch_rows() const;
  std::int64_t steps_done() const;

 private:
  [[noreturn]] void stop_at_bad_step(const std::filesystem::path& checkpoint);
  struct State;
  std::unique_ptr<State> state_;
};

}  // namespace fairway::pipeline
