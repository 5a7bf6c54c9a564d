#pragma once
// What executes training steps: the trainer decides what a step is to do and when to look at results, a
// backend runs forward, backward, update and averages on its device.

#include "fairway/data/loader.h"
#include "fairway/optim/optimizer.h"
#include "fairway/optim/schedule.h"
#include "fairway/pipeline/stages/corpus.h"
#include "fairway/pipeline/train/training_model.h"

#include <memory>
#include <vector>

namespace fairway::pipeline {

/// What the average does with the weights that a step leaves.
enum class AverageAction {
  none,
  set,  ///< they replace the average (where an EMA starts late)
  add,  ///< EMA: blended in; SWA: one more snapshot
};

/// Everything a step does beyond its data, decided by the host before the step begins.
struct StepPlan {
  optim::Progress progress;  ///< completed steps and training time when it begins; schedules follow from it
  double lr_scale = 1;       ///< the schedule's value at `progress` times the warm-up's, for the log
  double lr_warmup = 1;      ///< below 1 after train.windows have changed
  int window = 0;            ///< pieces of packed rows that attention sees (train.windows); 0: model.window
  AverageAction average = AverageAction::none;
  bool looped = true;          ///< layers of the loop run as often as they shall (model.loop_runs), not once
  bool fake_quantise = false;  ///< late QAT: forward and backward see fake-quantised matrices
  bool sensitivity = false;    ///< the matrices' squared gradients are collected
};

/// What a step did.
struct StepOutcome {
  double loss = 0;               ///< nats per token: the micro-batches' losses summed in double
  optim::GradientNorm gradient;  ///< before clipping (the ranks' mean); undefined when the loss is not finite
  double seconds = 0;            ///< by a GPU's clock; 0 on the CPU
  /// The least time that its work takes at the device's measured rates; 0: not measured.
  double roofline_seconds = 0;
  bool finite() const;  ///< loss and gradient
};

/// One run's weights, gradients, optimiser state, averages and programs. Steps are queued and collected in
/// order. A step whose loss or gradient is not finite changes nothing, nor does any step after it. Not
/// thread-safe.
class TrainBackend {
 public:
  virtual ~TrainBackend() = default;

  /// Queues one whole step: micro-batches of the loader's current step, clip, optimisers, averages. May
  /// return before it is done; the loader is read before it returns. At most depth() + 1 steps are queued.
  virtual void submit(const data::BatchLoader& loader, const StepPlan& plan) = 0;
  /// Waits for the oldest step not collected.
  virtual StepOutcome collect() = 0;
  /// Steps that may be in flight beyond the one being collected: 0 on a CPU, 1 where results are read one
  /// step late. Results never depend on it.
  virtual int depth() const = 0;

  // Below: only while no step is in flight.

  /// What the steps run on.
  virtual const TrainingModel& model() const = 0;
  /// Moments and averages: everything but the weights that decides the steps to come.
  virtual optim::Optimizer& optimizer() = 0;
  /// The weights that steps change, on the backend's device.
  graph::ParameterStore& weights() const { return model().runner->weights(); }
  std::vector<graph::MemoryLine> memory_table();
};

/// The backend of the engine's device, with the recipe's initial weights. Throws an input error where the
/// device has too little memory.
std::unique_ptr<TrainBackend> make_train_backend(const Recipe& recipe, const exec::Engine& engine);

}  // namespace fairway::pipeline
