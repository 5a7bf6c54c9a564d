#pragma once
// Training steps of a model on a device. On a GPU a step is queued as recordings (compute weights,
// micro-batches, update): the host prepares the next one meanwhile and reads loss and norm one step late. On
// the CPU a step is done when submit returns.

#include "fairway/exec/device_rates.h"
#include "fairway/pipeline/train/train_backend.h"

#include <array>
#include <deque>

namespace fairway::pipeline {

class ModelBackend final : public TrainBackend {
 public:
  ModelBackend(const Recipe& recipe, const exec::Engine& engine);
  ~ModelBackend() override;

  void submit(const data::BatchLoader& loader, const StepPlan& plan) override;
  StepOutcome collect() override;
  int depth() const override { return model_.runner->depth(); }
  const TrainingModel& model() const override { return model_; }
  optim::Optimizer& optimizer() override { return *optimizer_; }

  /// Seconds that a step takes outside its micro-batches, median of `repeats`; for benchmarks: weights and
  /// state change as by that many steps.
  double measure_update(int repeats);

 private:
  std::int64_t micro_batches() const {
    return recipe_.train.batch_tokens / recipe_.model.window / model_.rows;
  }
  /// Parts of a step after which gradients are clipped.
  std::int64_t ranks() const { return clips_by_rank(recipe_) ? recipe_.data.slices : 1; }
  double roofline_seconds(const graph::Program& micro_batch) const;

  const Recipe recipe_;
  const exec::Engine& engine_;
  const std::optional<exec::DeviceRates> rates_;  ///< on a GPU
  const TrainingModel model_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::array<exec::Recorded, 2> begin_, add_rank_, finish_;  ///< by exec::ComputeWeights
  std::array<double, 2> roofline_seconds_ = {};  ///< of a step: before the loop runs again, and since
  std::deque<double> queued_;                    ///< of the steps not yet collected
};

}  // namespace fairway::pipeline
