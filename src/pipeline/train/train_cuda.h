#pragma once
// Training steps on a GPU: a step is queued as recordings (working copy, micro-batches, update), the host
// prepares the next one meanwhile and reads loss and norm one step late.

#include "fairway/exec/device_rates.h"
#include "fairway/ops/cuda_work.h"
#include "fairway/optim/device_optimizer.h"
#include "fairway/pipeline/train/train_backend.h"

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>

namespace fairway::pipeline {

class CudaTrainBackend final : public TrainBackend {
 public:
  CudaTrainBackend(const Recipe& recipe, exec::Engine& engine);
  ~CudaTrainBackend() override;

  void submit(const data::BatchLoader& loader, const StepPlan& plan) override;
  StepOutcome collect() override;
  int depth() const override { return 1; }
  const TrainingModel& model() const override { return model_; }
  double roofline_seconds() const override { return roofline_seconds_; }
  std::vector<graph::MemoryLine> memory_table() const override;
  bool read_average(std::span<float> flat) override;
  std::int64_t average_count() const override;
  quant::Sensitivity sensitivity() override;
  std::vector<artifact::CheckpointBuffer> save_state() override;
  void restore_state(const SavedState& saved) override;
  double measure_update(int repeats) override;

 private:
  static constexpr int steps_in_flight = 2, marks = steps_in_flight + 1;

  void add_programs();
  void note_least_time();
  /// When `step` ended, which is when the next one began; where the queue was empty between them, the latter.
  ops::cuda::Event& end_of(std::int64_t step) { return marks_[static_cast<std::size_t>((step + 1) % marks)]; }
  std::int64_t micro_steps() const { return recipe_.train.batch_tokens / recipe_.model.window / model_.rows; }

  const Recipe recipe_;
  exec::Engine& engine_;
  ops::cuda::State& cuda_;
  const std::optional<exec::DeviceRates> rates_;
  const TrainingModel model_;
  exec::ModelRunner& runner_;
  graph::ParameterStore& store_;
  mutable std::optional<optim::DeviceOptimizer> optimizer_;  ///< reading a count waits for the queue
  std::array<exec::Recorded, 2> begin_, finish_;             ///< plain, fake-quantised
  std::array<ops::cuda::Event, marks> marks_{ops::cuda::Event(true), ops::cuda::Event(true),
                                             ops::cuda::Event(true)};
  double roofline_seconds_ = 0;
  std::int64_t submitted_ = 0, collected_ = 0;
  std::vector<optim::SavedState> saved_;
};

}  // namespace fairway::pipeline
