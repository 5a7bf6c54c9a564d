#pragma once
// Which windows are trained on in which step, and which are scored when. Pure functions of a protocol and of
// the text's length; nothing here sees text or weights. A window is named by its first target; it has S
// inputs.

#include <cstdint>
#include <vector>

#include "fairway/adapt/protocol.h"
#include "fairway/score/window_plan.h"

namespace fairway::adapt {

/// One virtual rank's windows in a step; their mean loss has weight 1 / (ranks that have windows).
struct RankBatch {
  int rank = 0;
  std::vector<std::int64_t> windows;
};

/// The steps of `When::train_then_score`.
class EpochPlan {
 public:
  /// `targets` of the text in windows of `window`. An input error when a rank has no window to train
  /// on. Without epochs there are no steps.
  EpochPlan(const Protocol& protocol, std::int64_t targets, int window);

  std::int64_t steps() const { return steps_; }                    ///< in an epoch
  std::int64_t schedule_steps() const { return schedule_steps_; }  ///< as cosine_steps counts an epoch
  std::int64_t windows() const { return windows_; }                ///< trained on in an epoch, all ranks
  /// The windows of one epoch in the order in which batches take them; permuted by (seed, phase, epoch).
  std::vector<std::int64_t> order(int phase, int epoch) const;
  /// Step `index` of an epoch with that order: one entry for each rank that has windows.
  std::vector<RankBatch> step(const std::vector<std::int64_t>& order, std::int64_t index) const;

 private:
  std::vector<RankBatch> shard_step(std::int64_t index) const;
  Protocol protocol_;
  std::int64_t targets_, window_;
  std::int64_t steps_ = 0, schedule_steps_ = 0, windows_ = 0;
};

/// What is scored together and then trained on.
struct Chunk {
  std::int64_t first = 0, count = 0;  ///< targets scored
  std::vector<score::Window> scored;
  std::vector<std::int64_t> trained;  ///< whole windows
};

/// The chunks of `When::score_first`.
class StreamPlan {
 public:
  /// `tokens` in the text; stride 0: windows side by side. Input errors: a rank without chunks, no window to
  /// train on before the last chunk, a stride that does not divide the window.
  StreamPlan(const Protocol& protocol, std::int64_t tokens, int window, int stride, score::Tail tail);

  const score::WindowPlan& windows() const { return plan_; }
  std::int64_t chunks(int rank) const;
  Chunk chunk(int rank, std::int64_t index) const;
  std::int64_t scored_windows() const;   ///< in one pass
  std::int64_t trained_windows() const;  ///< in one pass with one epoch; last chunks are not trained on

 private:
  std::int64_t chunk_targets() const { return std::int64_t{protocol_.chunk_windows} * window_; }
  Protocol protocol_;
  score::WindowPlan plan_;
  std::int64_t window_, stride_;
};

/// Batches of pull requests 518 and 573: how many of `batch` windows start in a shard of `targets`, and how
/// many windows number `index` holds (docs/spec/ttt.md sections 5 and 6).
std::int64_t shard_batches(std::int64_t targets, std::int64_t window, std::int64_t batch);
std::int64_t shard_batch_windows(std::int64_t targets, std::int64_t window, std::int64_t batch,
                                 std::int64_t index);

}  // namespace fairway::adapt
