#pragma once
// Training steps on a GPU: a step is queued as recordings (working copy, micro-batches, update), the host
// prepares the next one meanwhile and reads loss and norm one step late.

#include "fairway/ops/cuda_work.h"
#include "fairway/optim/optimizer.h"
#include "fairway/pipeline/machine.h"
#include "fairway/pipeline/train_backend.h"

#include <array>
#include <deque>
#include <map>
#include <memory>
#include <optional>

namespace fairway::pipeline {

/// Windows of a micro-step on the engine's GPU: the recipe's, or the most (a divisor of the step's, up to
/// 98,304 tokens) whose memory is free. Throws an input error that names the largest that fits.
int device_micro_batch_rows(const Recipe& recipe, Engine& engine);

class CudaTrainBackend final : public TrainBackend {
 public:
  CudaTrainBackend(const Recipe& recipe, Engine& engine);
  ~CudaTrainBackend() override;

  void submit(const data::BatchLoader& loader, const StepPlan& plan) override;
  StepOutcome collect() override;
  int depth() const override { return 1; }
  int micro_batch_rows() const override { return rows_; }
  double roofline_seconds() const override { return roofline_seconds_; }
  std::vector<graph::MemoryLine> memory_table() const override;
  graph::ParameterStore& weights() override { return store_; }
  bool read_average(std::span<float> flat) override;
  std::int64_t average_count() const override;
  quant::Sensitivity sensitivity() override;
  std::vector<artifact::CheckpointBuffer> save_state() override;
  void restore_state(const SavedState& saved) override;
  double measure_update(int repeats) override;

 private:
  /// Work that surrounds the micro-batches, run once directly (which loads its kernels), then recorded.
  struct Replayed {
    std::function<void()> queue;
    bool warm = false;
    std::unique_ptr<ops::cuda::Recording> recording;
  };
  /// What the host fills while the GPU works on the batch before.
  struct Feed {
    ops::cuda::PinnedBuffer tokens, targets;
    ops::cuda::Event copied;
  };
  static constexpr int feeds = 3, steps_in_flight = 2, marks = steps_in_flight + 1;

  void add_programs();
  void note_least_time(const graph::Graph& refresh, const graph::Graph& unfold);
  void replay(Replayed& work);
  void micro_step(const data::BatchLoader& loader, std::int64_t row, float* loss);
  /// When `step` ended, which is when the next one began; where the queue was empty between them, the latter.
  ops::cuda::Event& end_of(std::int64_t step) { return marks_[static_cast<std::size_t>((step + 1) % marks)]; }
  std::int64_t micro_steps() const { return recipe_.train.batch_tokens / recipe_.model.window / rows_; }

  const Recipe recipe_;
  Engine& engine_;
  ops::cuda::State& cuda_;
  const std::optional<MachineRates> machine_;
  const int rows_;
  graph::ParameterStore store_;
  graph::Plan plan_;
  graph::Program* program_ = nullptr;
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::array<Replayed, 2> begin_, finish_;  ///< plain, fake-quantised
  ops::cuda::PinnedBuffer weights_;         ///< of the targets in the loss
  std::array<Feed, feeds> feeds_;
  std::array<ops::cuda::PinnedBuffer, steps_in_flight> losses_;  ///< of a step, one for each micro-batch
  std::array<ops::cuda::Event, marks> marks_{ops::cuda::Event(true), ops::cuda::Event(true),
                                             ops::cuda::Event(true)};
  double roofline_seconds_ = 0;
  std::int64_t fed_ = 0, submitted_ = 0, collected_ = 0;
};

}  // namespace fairway::pipeline
