#pragma once
// Every decision of a run as a function of its progress: what is logged and repeated is the progress alone.

#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/pipeline/train/train_backend.h"

#include <optional>
#include <span>

namespace fairway::pipeline {

class TrainSchedule {
 public:
  explicit TrainSchedule(const Recipe& recipe);

  /// The step that begins at `progress`. `qat_on`: late QAT began in an earlier step (it stays on).
  /// `elapsed_ms`: when the steps before it began, each; asked for train.windows only.
  StepPlan plan(const optim::Progress& progress, bool qat_on, std::span<const double> elapsed_ms = {}) const;
  /// True when late QAT begins with this step, whether it acts or is inert.
  bool qat_begins(const optim::Progress& progress) const;
  /// Milliseconds that the step beginning at `progress` counts as (train.step_ms); nothing: the real clock.
  std::optional<double> step_ms(const optim::Progress& progress) const;
  /// The schedule's own end: the last step, or the clock. Published rule: a step begins while time is left.
  bool at_end(const optim::Progress& progress) const;
  /// Validation or a checkpoint follows this step (counted from 1): its results are needed before the next.
  bool pauses_after(std::int64_t step) const;

 private:
  bool looped(const optim::Progress& progress) const;
  void add_window(StepPlan& plan, std::span<const double> elapsed_ms) const;
  std::size_t window_stage(const optim::Progress& progress) const;
  AverageAction average_after(std::int64_t step, double lr_scale) const;

  const Recipe recipe_;
  optim::LrSchedule lr_;
};

}  // namespace fairway::pipeline
