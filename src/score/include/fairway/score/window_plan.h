#pragma once
// Which windows score which targets: plain and sliding evaluation (docs/spec/evaluation.md sections 2 and 3).

#include <cstdint>
#include <functional>
#include <memory>
#include <vector>

#include "fairway/base/enum_names.h"

namespace fairway::score {

/// What happens at the end of the text.
enum class Tail {
  /// Every target is scored exactly once; the last window may be shorter.
  clean,
  /// As the published scripts: the text is cut to a multiple of the window, and a sliding evaluation scores
  /// the
  /// last `stride` targets again and again with ever shorter context
  /// (docs/spec/evaluation.md section 3, "tail quirk").
  published,
};
constexpr auto names_of(Tail) { return base::names<Tail>("clean", "published"); }

/// One window: inputs are tokens [start, start + length), the target at local position p is token start + p +
/// 1, and positions [score_from, length) are scored. Target number t is token t + 1, so position p scores
/// target start + p.
struct Window {
  std::int64_t start = 0;  ///< -lead in the first window of a plan with a lead: that many inputs hold token 0
  std::int32_t length = 0;
  std::int32_t score_from = 0;
  /// Last positions of the padded window (all `window` inputs) that a Program must return: `stride` or
  /// `window`.
  std::int32_t score_last = 0;
  bool operator==(const Window&) const = default;
};

/// A plan over a text. Immutable and cheap to copy: computed window by window, and only where windows follow
/// documents one number each.
class WindowPlan {
 public:
  /// `tokens` tokens (so tokens - 1 targets) in windows of `window` without overlap. With a `lead` the first
  /// `lead` positions of each window are never scored (a model with memory tokens overwrites them): the first
  /// window starts that much before the text, later ones overlap by it.
  static WindowPlan plain(std::int64_t tokens, std::int32_t window, Tail tail = Tail::clean,
                          std::int32_t lead = 0);
  /// Windows of whole documents, for a model whose attention stays inside them: as many as fit side by side
  /// without cutting one, and of a document longer than `window` pieces of that from its beginning, so that
  /// each target has the context it has in training (docs/spec/caseops_training.md section 5.2). Windows
  /// don't overlap and each target is scored once. `begins`: whether a document begins at token i, for 1 <= i
  /// < tokens - 1.
  static WindowPlan documents(std::int64_t tokens, std::int32_t window,
                              const std::function<bool(std::int64_t i)>& begins);
  /// Windows of `window` that start every `stride` tokens; the first scores all its positions, later ones the
  /// last `stride`. 1 <= stride <= window - lead. Input errors: fewer than 2 tokens, a bad stride, a text
  /// shorter than a window (published), a lead with the published tail.
  static WindowPlan sliding(std::int64_t tokens, std::int32_t window, std::int32_t stride,
                            Tail tail = Tail::clean, std::int32_t lead = 0);

  std::int64_t size() const { return windows_; }   ///< number of windows
  Window operator[](std::int64_t index) const;     ///< index in [0, size())
  std::int32_t window() const { return window_; }  ///< S
  std::int32_t stride() const { return stride_; }  ///< d; S - lead when plain
  bool by_documents() const { return starts_ != nullptr; }
  Tail tail() const { return tail_; }
  /// Targets of the text that the plan covers: tokens - 1, or U (docs/spec/evaluation.md section 1) when
  /// published.
  std::int64_t targets() const { return targets_; }
  std::int64_t skipped_targets() const { return skipped_; }  ///< cut off by the published truncation
  /// Scored positions, repeats counted: targets(), or U + S - d in a published sliding evaluation.
  std::int64_t scored() const;
  /// First target that may be scored more than once; targets() when none may.
  std::int64_t repeats_from() const;
  /// Distinct values of Window::score_last: {S}, {S, d}, or {d} when plain with a lead. One compiled Program
  /// for each serves the whole plan.
  std::vector<std::int32_t> score_lengths() const;

 private:
  WindowPlan() = default;
  std::int64_t targets_ = 0, skipped_ = 0, windows_ = 0;
  std::int32_t window_ = 0, stride_ = 0, lead_ = 0;
  Tail tail_ = Tail::clean;
  std::shared_ptr<const std::vector<std::int64_t>> starts_;  ///< of each window, where they follow documents
};

}  // namespace fairway::score
