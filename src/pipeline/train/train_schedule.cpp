#include "train/train_schedule.h"

#include "fairway/base/error.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/pipeline/train/train_setup.h"

#include <algorithm>

namespace fairway::pipeline {
namespace {

// Squared gradients are collected while the learning-rate scale is below this: the published value.
constexpr double sensitivity_below = 0.5;

}  // namespace

TrainSchedule::TrainSchedule(const Recipe& recipe) : recipe_(recipe), lr_(lr_schedule(recipe)) {}

/// docs/spec/training.md sections 9 and 10; EMA from average.start on.
AverageAction TrainSchedule::average_after(std::int64_t step, double lr_scale) const {
  const auto& a = recipe_.average;
  if (a.kind == Average::ema) {
    if (step < a.start) return AverageAction::none;
    return step == a.start ? AverageAction::set : AverageAction::add;
  }
  if (a.kind == Average::swa && lr_scale < a.swa_below && step % a.swa_every == 0) return AverageAction::add;
  return AverageAction::none;
}

bool TrainSchedule::qat_begins(const optim::Progress& progress) const {
  const auto& q = recipe_.qat;
  if (!q.any()) return false;
  if (q.below > 0 && optim::lr_scale(lr_, progress) < q.below) return true;
  return q.last_fraction > 0 && optim::part_done(lr_, progress) >= 1 - q.last_fraction;
}

bool TrainSchedule::looped(const optim::Progress& progress) const {
  return optim::part_done(lr_, progress) >= recipe_.train.loop_start;
}

std::optional<double> TrainSchedule::step_ms(const optim::Progress& progress) const {
  const auto& counted = recipe_.train.step_ms;
  if (!recipe_.train.by_clock() || counted.empty()) return {};
  return looped(progress) ? counted.back() : counted.front();
}

/// Which of train.windows: each lasts up to its part of the training, that included (PR 2014,
/// docs/spec/leaders.md section 4.1).
std::size_t TrainSchedule::window_stage(const optim::Progress& progress) const {
  const double done = optim::part_done(lr_, progress);
  return static_cast<std::size_t>(
      std::ranges::count_if(recipe_.train.window_until, [&](double until) { return done > until; }));
}

/// The k-th step after a change learns at (k + 1) / train.window_warmup_steps (the same section). When it
/// was follows from the steps before, so that a run that is resumed needs nothing else.
void TrainSchedule::add_window(StepPlan& plan, std::span<const double> elapsed_ms) const {
  const auto& t = recipe_.train;
  if (t.windows.empty()) return;
  base::check(std::ssize(elapsed_ms) >= plan.progress.step, "{} steps of {} are known", elapsed_ms.size(),
              plan.progress.step);
  const auto stage = window_stage(plan.progress);
  plan.window = t.windows[stage];
  std::int64_t k = 0;
  for (auto step = plan.progress.step; step > 0 && k < t.window_warmup_steps; --step, ++k)
    if (window_stage({step - 1, elapsed_ms[static_cast<std::size_t>(step - 1)]}) != stage) {
      plan.lr_warmup = static_cast<double>(k + 1) / t.window_warmup_steps;
      break;
    }
  plan.lr_scale *= plan.lr_warmup;
}

StepPlan TrainSchedule::plan(const optim::Progress& progress, bool qat_on,
                             std::span<const double> elapsed_ms) const {
  StepPlan plan;
  plan.progress = progress;
  plan.lr_scale = optim::lr_scale(lr_, progress);
  plan.average = average_after(progress.step + 1, plan.lr_scale);
  plan.looped = looped(progress);
  plan.sensitivity = guided_bits(recipe_) && plan.lr_scale < sensitivity_below;
  plan.fake_quantise = !recipe_.qat.inert && (qat_on || qat_begins(progress));
  add_window(plan, elapsed_ms);
  return plan;
}

bool TrainSchedule::at_end(const optim::Progress& progress) const {
  if (progress.step >= recipe_.train.steps) return true;
  return lr_.kind == optim::ScheduleKind::wall_clock && progress.elapsed_ms >= lr_.limit_ms;
}

bool TrainSchedule::pauses_after(std::int64_t step) const {
  const auto& t = recipe_.train;
  return (t.validate_every > 0 && step % t.validate_every == 0) ||
         (t.checkpoint_every > 0 && step % t.checkpoint_every == 0);
}

}  // namespace fairway::pipeline
