#include "train/train_schedule.h"

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

StepPlan TrainSchedule::plan(const optim::Progress& progress, bool qat_on) const {
  StepPlan plan;
  plan.progress = progress;
  plan.lr_scale = optim::lr_scale(lr_, progress);
  plan.average = average_after(progress.step + 1, plan.lr_scale);
  plan.looped = looped(progress);
  plan.sensitivity = guided_bits(recipe_) && plan.lr_scale < sensitivity_below;
  plan.fake_quantise = !recipe_.qat.inert && (qat_on || qat_begins(progress));
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
