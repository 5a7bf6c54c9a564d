#pragma once
// Training steps on the CPU: nothing is queued, a step is done when submit returns.

#include "fairway/optim/average.h"
#include "fairway/optim/optimizer.h"
#include "fairway/pipeline/train/train_backend.h"
#include "train/train_sensitivity.h"

#include <optional>

namespace fairway::pipeline {

class CpuTrainBackend final : public TrainBackend {
 public:
  CpuTrainBackend(const Recipe& recipe, exec::Engine& engine);

  void submit(const data::BatchLoader& loader, const StepPlan& plan) override;
  StepOutcome collect() override;
  int depth() const override { return 0; }
  const TrainingModel& model() const override { return model_; }
  std::vector<graph::MemoryLine> memory_table() const override;
  bool read_average(std::span<float> flat) override;
  std::int64_t average_count() const override;
  quant::Sensitivity sensitivity() override;
  std::vector<artifact::CheckpointBuffer> save_state() override;
  void restore_state(const SavedState& saved) override;
  double measure_update(int repeats) override;

 private:
  double micro_steps(const data::BatchLoader& loader);
  void average(AverageAction action);
  std::vector<optim::StateBuffer> state();
  std::span<float> values() const { return store_.flat_values().span<float>(); }

  const Recipe recipe_;
  exec::Engine& engine_;
  const TrainingModel model_;
  exec::ModelRunner& runner_;
  graph::ParameterStore& store_;
  std::optional<optim::Optimizer> optimizer_;
  std::optional<optim::Ema> ema_;
  std::optional<optim::Swa> swa_;
  std::optional<GradientSquares> squares_;  ///< for gradient-guided bits
  std::size_t state_bytes_ = 0;             ///< of all these
  std::optional<StepOutcome> done_;         ///< submitted and not collected
  bool bad_ = false;                        ///< a step was not finite: nothing changes any more
};

}  // namespace fairway::pipeline
