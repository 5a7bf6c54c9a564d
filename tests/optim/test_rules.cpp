// Element-wise rules over chosen ranges, as test-time training uses them; their formulas are checked against
// plain loops in tests/adapt.

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "helpers.h"

namespace fairway::optim {
namespace {

constexpr UpdateRule sgd{.kind = RuleKind::sgd};
using tensor::DType;

TEST(Rules, FrozenElementsStayAndFactorsScaleTheRate) {
  base::ThreadPool pool(2);
  std::vector<float> values(100, 1.0f), gradients(100, 0.5f);
  const auto config =
      one_group(sgd, {{.name = "a", .range = {10, 20}}, {.name = "b", .range = {40, 60}, .lr_factor = 3.0}});
  const auto optimizer = optimizer_of(config, values, gradients, pool);
  optimizer->step(at_rate(0.1));
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float moved = i >= 10 && i < 20 ? 0.05f : i >= 40 && i < 60 ? 0.15f : 0.0f;
    EXPECT_NEAR(values[i], 1.0f - moved, 1e-7f) << i;
  }
  optimizer->step(at_rate(0.1));  // v = 0.9 * 0.5 + 0.5
  EXPECT_NEAR(values[10], 1.0f - 0.05f - 0.095f, 1e-7f);
}

TEST(Rules, TheClipSeesAllRangesAndNothingElse) {
  base::ThreadPool pool(1);
  std::vector<float> values(8, 0.0f), gradients = {3, 0, 0, 4, 100, 100, 100, 100};
  for (const bool by_range : {false, true}) {
    std::ranges::fill(values, 0.0f);
    auto config = one_group(sgd, {{"b", {2, 4}}, {"a", {0, 2}}}, DType::f32, 1.0);
    config.norm_by_range = by_range;
    const auto optimizer = optimizer_of(config, values, gradients, pool);
    EXPECT_NEAR(optimizer->step(at_rate(1.0)).norm, 5.0, 1e-9);
    EXPECT_NEAR(values[0], -0.6, 1e-6);
    EXPECT_NEAR(values[3], -0.8, 1e-6);
    EXPECT_EQ(values[4], 0.0f);
  }
}

TEST(Rules, ANotFiniteGradientChangesNothing) {
  base::ThreadPool pool(1);
  for (const auto kind : {RuleKind::adamw, RuleKind::adam, RuleKind::sgd}) {
    std::vector<float> values(4, 1.0f), gradients = {1, std::numeric_limits<float>::infinity(), 1, 1};
    const auto optimizer = optimizer_of(one_group({.kind = kind}, {{"a", {0, 4}}}), values, gradients, pool);
    EXPECT_FALSE(optimizer->step(at_rate(0.1)).finite);
    EXPECT_EQ(values, std::vector<float>(4, 1.0f));
    gradients[1] = 1;
    EXPECT_FALSE(optimizer->step(at_rate(0.1)).finite);
    EXPECT_EQ(values, std::vector<float>(4, 1.0f));
    optimizer->enqueue_clear_flag();
    EXPECT_TRUE(optimizer->step(at_rate(0.1)).finite);
    EXPECT_NE(values[1], 1.0f);
  }
}

/// Mean of v over mean of g^2 after `steps` steps of unit Gaussian gradients.
double second_moment(DType storage, int steps) {
  base::ThreadPool pool(1);
  constexpr std::size_t n = 256;
  std::vector<float> values(n, 0.0f), gradients(n);
  const auto optimizer =
      optimizer_of(one_group({.stepwise = true}, {{"t", {0, n}}}, storage), values, gradients, pool);
  const base::Random random(1, "gradients");
  for (int s = 0; s < steps; ++s) {
    for (std::size_t i = 0; i < n; ++i)
      gradients[i] = static_cast<float>(random.normal(static_cast<std::uint64_t>(s) * n + i));
    optimizer->step(at_rate(1e-6));
  }
  double sum = 0;
  for (const float v : floats_of(state_of(*optimizer).at("adamw.t.v"))) sum += static_cast<double>(v);
  return sum / n;
}

TEST(Rules, TheSecondMomentOfBf16TablesNeverDecays) {
  // docs/spec/ttt.md section 2: about 2.2 mean g^2 after 5,950 steps, where ordinary Adam has 1.0.
  EXPECT_NEAR(second_moment(DType::f32, 5950), 1.0, 0.05);
  EXPECT_NEAR(second_moment(DType::bf16, 5950), 2.2, 0.15);
}

TEST(Rules, ResetMakesItNew) {
  base::ThreadPool pool(1);
  for (const auto kind : {RuleKind::adamw, RuleKind::sgd})
    for (const auto storage : {DType::f32, DType::bf16}) {
      std::vector<float> values(4, 1.0f), gradients = {0.1f, -0.2f, 0.3f, 0.0f};
      const UpdateRule rule{.kind = kind, .stepwise = true};
      const auto optimizer = optimizer_of(one_group(rule, {{"a", {0, 4}}}, storage), values, gradients, pool);
      optimizer->step(at_rate(0.01));
      const auto first = values;
      optimizer->step(at_rate(0.02));
      optimizer->enqueue_reset();
      values.assign(4, 1.0f);
      optimizer->step(at_rate(0.01));
      EXPECT_EQ(values, first);
      EXPECT_EQ(values[3], 1.0f);
    }
}

/// What is rounded in bf16 storage: only stores, or every operation's result.
TEST(Rules, SgdRoundsItsStoresOrItsOperations) {
  using tensor::round_to_bf16;
  base::ThreadPool pool(1);
  const auto start = normals("start", 100), gradient = normals("gradient", 100);
  for (const bool stepwise : {false, true}) {
    auto values = start, gradients = gradient;
    for (float& v : values) v = round_to_bf16(v);
    const auto before = values;
    const UpdateRule rule{.kind = RuleKind::sgd, .stepwise = stepwise};
    const auto optimizer =
        optimizer_of(one_group(rule, {{"a", {0, 100}}}, DType::bf16), values, gradients, pool);
    for (int i = 0; i < 2; ++i) optimizer->step(at_rate(0.1));
    for (std::size_t i = 0; i < 100; ++i) {
      const auto result = [&](float x) { return stepwise ? round_to_bf16(x) : x; };
      float p = before[i], v = 0;
      for (int step = 0; step < 2; ++step) {
        v = round_to_bf16(result(0.9f * v) + result(gradient[i]));
        p = round_to_bf16(p - 0.1f * v);
      }
      ASSERT_EQ(values[i], p) << i << " " << stepwise;
    }
  }
}

}  // namespace
}  // namespace fairway::optim
