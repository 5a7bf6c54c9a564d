#pragma once
// Scores of windows by a model on a device.

#include "fairway/exec/model_runner.h"
#include "fairway/score/score.h"

namespace fairway::exec {

/// Runs windows through one program of a runner for each scored length, with the weights as they are.
class WindowPrograms final : public score::WindowScorer {
 public:
  /// `runner` must outlive this. `rows`: windows in one call; 0: as many as keep products at full rate.
  explicit WindowPrograms(ModelRunner& runner, int rows = 0);

  /// Plans the program of a scored length (one of WindowPlan::score_lengths()) where it is not there yet; it
  /// can run after runner.allocate().
  graph::Program& add(int length);
  ModelRunner& runner() const { return runner_; }
  int rows() const override { return rows_; }
  void score(std::span<const std::int32_t> inputs, std::span<const std::int32_t> targets, int score_last,
             std::span<float> nll) override;

 private:
  ModelRunner& runner_;
  const int rows_;
  std::map<int, graph::Program*> programs_;  ///< by scored length
};

/// The windows that score a text with this model: sliding with a stride, and without one (0) side by side, or
/// by documents where its attention stays inside them. The published tail and memory tokens know no
/// documents.
score::WindowPlan plan_windows(const model::ModelConfig& config, const score::TokenView& tokens, int stride,
                               score::Tail tail);

}  // namespace fairway::exec
