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

double part_done(const LrSchedule& schedule, const Progress& progress) {
  if (schedule.kind == ScheduleKind::wall_clock) return progress.elapsed_ms / schedule.limit_ms;
  return static_cast<double>(progress.step) /
         static_cast<double>(std::max<std::int64_t>(schedule.total_steps, 1));
}

double lr_scale(const LrSchedule& s, const Progress& progress) {
  double scale = 1;
  if (s.warmdown_fraction > 0)
    scale = std::min(1.0, (1 - part_done(s, progress)) / s.warmdown_fraction);
  else if (s.kind == ScheduleKind::wall_clock)
    scale = lr_scale_by_clock(progress, s.limit_ms, s.warmdown_steps);
  else
    scale = lr_scale_by_steps(progress.step, s.total_steps, s.warmdown_steps);
  return std::max(scale, s.floor);
}

double momentum_at(const MomentumWarmup& warmup, std::int64_t step) {
  if (warmup.steps <= 0) return warmup.end;
  const double part = std::min(static_cast<double>(step) / static_cast<double>(warmup.steps), 1.0);
  return warmup.start + (warmup.end - warmup.start) * part;
}

double decay_scale_at(const DecayTaper& taper, double part_done) {
  if (part_done <= taper.start || taper.start >= 1) return 1;
  const double part = std::min((part_done - taper.start) / (1 - taper.start), 1.0);
  return 1 + (taper.end - 1) * part;
}

}  // namespace fairway::optim
