#include "fairway/optim/schedule.h"

#include <algorithm>

namespace fairway::optim {

double lr_scale_by_steps(std::int64_t step, std::int64_t total_steps, std::int64_t warmdown_steps) {
  const auto left = static_cast<double>(std::max<std::int64_t>(total_steps - step, 0));
  return std::min(1.0, left / static_cast<double>(std::max<std::int64_t>(warmdown_steps, 1)));
}

double lr_scale_by_clock(const Progress& progress, double limit_ms, std::int64_t warmdown_steps) {
  const double mean_step =
      progress.elapsed_ms / static_cast<double>(std::max<std::int64_t>(progress.step, 1));
  const double decay = static_cast<double>(warmdown_steps) * mean_step;
  const double left = std::max(limit_ms - progress.elapsed_ms, 0.0);
  return left <= decay ? left / std::max(decay, 1e-9) : 1.0;
}

double lr_scale(const LrSchedule& schedule, const Progress& progress) {
  if (schedule.kind == ScheduleKind::wall_clock)
    return lr_scale_by_clock(progress, schedule.limit_ms, schedule.warmdown_steps);
  return lr_scale_by_steps(progress.step, schedule.total_steps, schedule.warmdown_steps);
}

double momentum_at(const MomentumWarmup& warmup, std::int64_t step) {
  if (warmup.steps <= 0) return warmup.end;
  const double part = std::min(static_cast<double>(step) / static_cast<double>(warmup.steps), 1.0);
  return warmup.start + (warmup.end - warmup.start) * part;
}

}  // namespace fairway::optim
