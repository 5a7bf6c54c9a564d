#pragma once
// What a training program reads and the losses that come back, so that the host fills the next micro-batch
// while a GPU works on the one before.

#include "fairway/exec/engine.h"
#include "fairway/model/config.h"

#include <functional>
#include <span>
#include <vector>

namespace fairway::exec {

/// Memory that a GPU copies from and to by itself; ordinary memory where there is none.
template <class T>
class PinnedArray {
 public:
  PinnedArray(const Engine& engine, std::size_t count) {
    if (engine.cuda())
      pinned_ = ops::cuda::PinnedBuffer(count * sizeof(T));
    else
      plain_.resize(count);
  }
  std::span<T> span() { return plain_.empty() ? pinned_.span<T>() : std::span<T>(plain_); }

 private:
  std::vector<T> plain_;
  ops::cuda::PinnedBuffer pinned_;
};

/// The inputs of a training program, [rows x window] each.
struct MicroBatch {
  std::span<std::int32_t> tokens, targets;
  std::span<float> weights;  ///< of the targets in the loss
};
/// Writes all of a micro-batch.
using Fill = std::function<void(const MicroBatch&)>;

struct StepResult {
  double loss = 0;  ///< of the micro-batches, summed in double
  /// By a GPU's clock, from the end of the step before, or from the beginning where nothing was queued; on
  /// the CPU 0.
  double seconds = 0;
};

class HostStaging {
 public:
  /// Steps whose losses may be on their way.
  static constexpr int steps_in_flight = 2;

  /// For programs of `tokens` tokens and steps of `micro_batches` micro-batches at most.
  HostStaging(const model::ModelConfig& config, const Engine& engine, std::size_t tokens,
              std::size_t micro_batches);

  /// Fills the inputs of `program`, segments (from the tokens) included; on a GPU queues their copies.
  void send(graph::Program& program, const Fill& fill);

  /// Losses received from now on are another step's. `longest`: where its documents are cut; 0: at the
  /// window.
  void begin_step(int longest = 0);
  void receive(graph::Program& program);  ///< queues the copy of a micro-batch's loss
  void end_step();                        ///< everything of the step is queued
  StepResult take_step();                 ///< of the oldest step not yet taken; waits for its end

 private:
  struct Inputs {
    PinnedArray<std::int32_t> tokens, targets, segments;
    PinnedArray<float> weights;
    ops::cuda::Event copied;
  };
  struct Losses {
    PinnedArray<float> values;
    std::size_t count = 0;
  };
  Losses& losses(std::int64_t step) { return losses_[static_cast<std::size_t>(step % steps_in_flight)]; }
  /// When a step began, which is when the one before it ended.
  ops::cuda::Event& start_of(std::int64_t step) {
    return starts_[static_cast<std::size_t>(step % (steps_in_flight + 1))];
  }

  const model::ModelConfig config_;
  const Engine& engine_;
  std::vector<Inputs> inputs_;  ///< none on the CPU: the program's own memory is filled
  std::vector<Losses> losses_;
  std::vector<ops::cuda::Event> starts_;  ///< none on the CPU
  std::size_t sent_ = 0;
  int longest_ = 0;  ///< of the step's segments; 0: the window
  std::int64_t begun_ = 0, taken_ = 0;
};

}  // namespace fairway::exec
