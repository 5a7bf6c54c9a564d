#pragma once
// Windows through a model, batch by batch.

#include <cstdint>
#include <functional>
#include <span>
#include <vector>

#include "fairway/score/score.h"
#include "fairway/score/window_plan.h"

namespace fairway::score {

/// The scored positions of one window, in order: nll of targets start + score_from, ..., start + length - 1.
using WindowSink = std::function<void(const Window& window, std::span<const float> nll)>;

/// Gathers windows into calls of a scorer. Tokens and model must outlive it.
class WindowRunner {
 public:
  WindowRunner(TokenView tokens, std::int32_t window, WindowScorer& model);

  /// Runs the windows in order; `sink` gets each one after its batch has run. `number` is the first one's,
  /// for errors: a NaN is a failure that names window, target and position.
  void run(std::span<const Window> windows, std::int64_t number, const WindowSink& sink);

 private:
  void fill(std::span<const Window> batch);
  void deliver(std::span<const Window> batch, std::int64_t number, const WindowSink& sink) const;
  TokenView tokens_;
  std::int32_t window_;
  WindowScorer& model_;
  std::vector<std::int32_t> inputs_, targets_;
  std::vector<float> nll_;
};

/// Bytes that the scored targets of a window stand for.
void count_bytes(const TokenView& tokens, const Window& window, const ByteCounter& count,
                 std::vector<std::int32_t>& bytes);

}  // namespace fairway::score
