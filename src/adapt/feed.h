#pragma once
// What a training program reads and the losses that come back, so that the host fills the next batch while a
// GPU works on the one before.

#include <optional>
#include <span>
#include <vector>

#include "fairway/graph/program.h"
#include "fairway/ops/cuda_work.h"

namespace fairway::adapt {

struct WeightedLesson;

/// Memory that a GPU copies from and to by itself; ordinary memory where there is none.
template <class T>
class SharedArray {
 public:
  SharedArray(const graph::Runtime& runtime, std::size_t count) {
    if (runtime.cuda)
      pinned_ = ops::cuda::PinnedBuffer(count * sizeof(T));
    else
      plain_.resize(count);
  }
  std::span<T> span() { return plain_.empty() ? pinned_.span<T>() : std::span<T>(plain_); }

 private:
  std::vector<T> plain_;
  ops::cuda::PinnedBuffer pinned_;
};

class Feed {
 public:
  /// For programs of `rows` windows; `losses`: the most batches of a step.
  Feed(const graph::Runtime& runtime, int rows, int window, std::size_t losses);

  /// Queues inputs, targets and weights of at most `rows` windows; rows without a lesson weigh nothing.
  void send(graph::Program& program, std::span<const WeightedLesson> lessons);
  /// Queues a whole batch that comes from no text, for measuring: a GPU at its power limit is faster with
  /// zeros.
  void send_noise(graph::Program& program, int vocabulary);

  /// Losses of steps: `slots` steps may be on their way.
  static constexpr int slots = 2;
  void clear(int slot);
  void receive(graph::Program& program, int slot);  ///< queues the copy of a batch's loss
  double sum(int slot);                             ///< once they are there

 private:
  struct Batch {
    SharedArray<std::int32_t> inputs, targets;
    SharedArray<float> weights;
    std::optional<ops::cuda::Event> copied;
  };
  Batch& free_batch();
  void write(graph::Program& program, Batch& batch);

  struct Losses {
    SharedArray<float> values;
    std::size_t count = 0;
  };
  const graph::Runtime runtime_;
  const std::size_t window_;
  std::vector<Batch> batches_;
  std::vector<Losses> losses_;
  std::size_t sent_ = 0;
};

/// Tokens below `vocabulary` that come from no text.
void fill_with_noise(std::span<std::int32_t> tokens, int vocabulary);

}  // namespace fairway::adapt
