#pragma once
// Training steps on the CPU: nothing is queued, a step is done when submit returns.

#include "fairway/optim/optimizer.h"
#include "fairway/pipeline/train_backend.h"

#include <optional>

namespace fairway::pipeline {

class CpuTrainBackend final : public TrainBackend {
 public:
  CpuTrainBackend(const Recipe& recipe, Engine& engine);

  void submit(const data::BatchLoader& loader, const StepPlan& plan) override;
  StepOutcome collect() override;
  int depth() const override { return 0; }
  int micro_batch_rows() const override { return rows_; }
  std::vector<graph::MemoryLine> memory_table() const override;
  graph::ParameterStore& weights() override { return store_; }
  bool read_average(std::span<float> flat) override;
  std::int64_t average_count() const override;
  quant::Sensitivity sensitivity() override;
  std::vector<artifact::CheckpointBuffer> save_state() override;
  void restore_state(const SavedState& saved) override;
  double measure_update(int repeats) override;

 private:
  double micro_steps(const data::BatchLoader& loader);
  optim::GradientNorm update(const StepPlan& plan);

  const Recipe recipe_;
  Engine& engine_;
  const int rows_;
  graph::ParameterStore store_;
  graph::Plan plan_;
  graph::Program* program_ = nullptr;
  graph::Program* refresh_[2] = {};  ///< of the working copy: plain, fake-quantised; none without late QAT
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::optional<StepOutcome> done_;  ///< submitted and not collected
  bool bad_ = false;                 ///< a step was not finite: nothing changes any more
};

}  // namespace fairway::pipeline
