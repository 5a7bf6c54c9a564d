// Schedules against numbers worked out by hand from docs/spec/training.md sections 4 and 6.
#include <gtest/gtest.h>

#include "fairway/optim/schedule.h"

namespace fairway::optim {
namespace {

TEST(Schedule, StepsAreConstantThenLinearToZero) {
  EXPECT_DOUBLE_EQ(lr_scale_by_steps(0, 7089, 3000), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale_by_steps(4089, 7089, 3000), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale_by_steps(4090, 7089, 3000), 2999.0 / 3000.0);
  EXPECT_DOUBLE_EQ(lr_scale_by_steps(5589, 7089, 3000), 0.5);
  EXPECT_DOUBLE_EQ(lr_scale_by_steps(7088, 7089, 3000), 1.0 / 3000.0);
  EXPECT_DOUBLE_EQ(lr_scale_by_steps(7089, 7089, 3000), 0.0);
  EXPECT_DOUBLE_EQ(lr_scale_by_steps(8000, 7089, 3000), 0.0)
      << "beyond the end the rate must not turn negative";
  EXPECT_DOUBLE_EQ(lr_scale_by_steps(6, 20, 200), 0.07) << "a warm-down longer than the run starts below 1";
  EXPECT_DOUBLE_EQ(lr_scale_by_steps(19, 20, 0), 1.0) << "no warm-down";
}

TEST(Schedule, ClockFollowsThePublishedRuns) {
  const double limit = 600'000.0;
  EXPECT_DOUBLE_EQ(lr_scale_by_clock({0, 0.0}, limit, 3500), 1.0);
  // PR 518: the first step took 248 ms (30-epoch run 243): scale 0.69 (0.71) for the second step.
  EXPECT_NEAR(lr_scale_by_clock({1, 248.0}, limit, 3500), 0.69, 0.005);
  EXPECT_NEAR(lr_scale_by_clock({1, 243.0}, limit, 3500), 0.71, 0.005);
  // With K = 3500 the threshold of the mean step lies at about 171 ms, with K = 3000 at 200 ms.
  EXPECT_DOUBLE_EQ(lr_scale_by_clock({10, 1700.0}, limit, 3500), 1.0);
  EXPECT_LT(lr_scale_by_clock({10, 1720.0}, limit, 3500), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale_by_clock({1, 199.0}, limit, 3000), 1.0);
  // 100 ms a step: 6000 steps in all, the decay starts K before that and is linear.
  EXPECT_DOUBLE_EQ(lr_scale_by_clock({2500, 250'000.0}, limit, 3500), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale_by_clock({4250, 425'000.0}, limit, 3500), 0.5);
  EXPECT_DOUBLE_EQ(lr_scale_by_clock({6000, 600'000.0}, limit, 3500), 0.0);
  EXPECT_DOUBLE_EQ(lr_scale_by_clock({6001, 600'070.0}, limit, 3500), 0.0);
  EXPECT_DOUBLE_EQ(lr_scale_by_clock({3000, 300'000.0}, limit, 0), 1.0) << "no warm-down";
}

TEST(Schedule, KindChoosesTheRule) {
  const LrSchedule steps{ScheduleKind::steps, 20, 0.0, 8};
  EXPECT_DOUBLE_EQ(lr_scale(steps, {16, 1e9}), 0.5);
  const LrSchedule clock{ScheduleKind::wall_clock, 20, 1000.0, 5};
  EXPECT_DOUBLE_EQ(lr_scale(clock, {15, 750.0}), 1.0);
  EXPECT_DOUBLE_EQ(lr_scale(clock, {18, 900.0}), 0.4);
}

TEST(Schedule, MomentumRampsFromTheFirstStep) {
  const MomentumWarmup published;
  EXPECT_DOUBLE_EQ(momentum_at(published, 0), 0.92);
  EXPECT_DOUBLE_EQ(momentum_at(published, 750), 0.955);
  EXPECT_DOUBLE_EQ(momentum_at(published, 1500), 0.99);
  EXPECT_DOUBLE_EQ(momentum_at(published, 9000), 0.99);
  const MomentumWarmup base{0.85, 0.95, 500};
  EXPECT_DOUBLE_EQ(momentum_at(base, 250), 0.9);
  EXPECT_DOUBLE_EQ(momentum_at({0.9, 0.95, 0}, 0), 0.95);
}

TEST(Schedule, WeightDecayFallsOverTheLastPart) {  // docs/spec/caseops_training.md section 2, PR 1729
  const DecayTaper published{.start = 0.7, .end = 0.5};
  EXPECT_EQ(decay_scale_at(published, 0), 1);
  EXPECT_EQ(decay_scale_at(published, 0.7), 1);
  EXPECT_NEAR(decay_scale_at(published, 0.76), 0.9, 1e-12);
  EXPECT_NEAR(decay_scale_at(published, 0.85), 0.75, 1e-12);
  EXPECT_EQ(decay_scale_at(published, 1), 0.5);
  EXPECT_EQ(decay_scale_at(published, 1.2), 0.5) << "a step that began in time";
  EXPECT_EQ(decay_scale_at({.start = 1, .end = 0.5}, 2), 1) << "never";
}

TEST(Schedule, AFractionOfTheRunAndAFloor) {  // docs/spec/caseops_training.md section 2
  LrSchedule clock{
      .kind = ScheduleKind::wall_clock, .limit_ms = 1000, .warmdown_fraction = 0.85, .floor = 0.1};
  const auto at = [&](double ms) { return lr_scale(clock, {7, ms}); };
  EXPECT_EQ(at(0), 1);
  EXPECT_EQ(at(149), 1);
  EXPECT_NEAR(at(575), 0.5, 1e-12);
  EXPECT_NEAR(at(900), 0.1 / 0.85, 1e-12);
  EXPECT_EQ(at(920), 0.1);
  EXPECT_EQ(at(2000), 0.1);
  LrSchedule steps{.total_steps = 100, .warmdown_fraction = 0.5};
  EXPECT_NEAR(lr_scale(steps, {75, 0}), 0.5, 1e-12);
  EXPECT_EQ(lr_scale(steps, {100, 0}), 0);
}

}  // namespace
}  // namespace fairway::optim
