#pragma once
// Schedules as pure functions of a run's progress (docs/spec/training.md sections 4 and 6). Nothing here
// reads a clock: whoever calls logs the Progress it passed in, and replaying the log gives the same values.

#include <cstdint>

#include "fairway/base/enum_names.h"

namespace fairway::optim {

/// How far a run is when a step begins.
struct Progress {
  std::int64_t step = 0;    ///< completed optimiser steps
  double elapsed_ms = 0.0;  ///< training time used so far, validation not counted
};

enum class ScheduleKind { steps, wall_clock };
constexpr auto names_of(ScheduleKind) { return base::names<ScheduleKind>("steps", "wall_clock"); }

/// What the learning rate is scaled by: constant, then linear to 0 over the last `warmdown_steps` steps, or
/// over a part of the training.
struct LrSchedule {
  ScheduleKind kind = ScheduleKind::steps;
  std::int64_t total_steps = 0;     ///< N, for `steps`
  double limit_ms = 600'000.0;      ///< T, for `wall_clock`
  std::int64_t warmdown_steps = 0;  ///< K; 0: no warm-down
  /// W: the last part of the run, in time or steps, instead of K (docs/spec/caseops_training.md section 2).
  double warmdown_fraction = 0;
  double floor = 0;  ///< the scale never falls below it
};

/// min(1, (N - s) / K), not below 0.
double lr_scale_by_steps(std::int64_t step, std::int64_t total_steps, std::int64_t warmdown_steps);

/// Warm-down by time: the mean step so far says how long K steps take (w = K elapsed / max(s, 1)); with
/// r = max(T - elapsed, 0) left, r / max(w, 1e-9) once r <= w, else 1. Slow first steps can scale below 1
/// early.
double lr_scale_by_clock(const Progress& progress, double limit_ms, std::int64_t warmdown_steps);

/// How much of the run is done: time or steps over the limit.
double part_done(const LrSchedule& schedule, const Progress& progress);
/// With a fraction W: max((1 - part) / W, floor) from part 1 - W on.
double lr_scale(const LrSchedule& schedule, const Progress& progress);

/// Muon's momentum: start + (end - start) min(s / steps, 1).
struct MomentumWarmup {
  double start = 0.92;
  double end = 0.99;
  std::int64_t steps = 1500;  ///< 0: `end` from the first step
};
double momentum_at(const MomentumWarmup& warmup, std::int64_t step);

/// What Muon's weight decay is scaled by: 1, then linear to `end` at the end of the run
/// (docs/spec/caseops_training.md section 2, PR 1729).
struct DecayTaper {
  double start = 1;  ///< part of the run where it begins; 1: never
  double end = 1;
};
double decay_scale_at(const DecayTaper& taper, double part_done);

}  // namespace fairway::optim
