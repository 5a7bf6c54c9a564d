// The update of test-time training; its formulas are checked against plain loops in tests/adapt.
#include "fairway/optim/range_optimizer.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <vector>

#include "fairway/base/random.h"
#include "fairway/tensor/dtype.h"

namespace fairway::optim {
namespace {

using Rule = RangeRule;

TEST(RangeOptimizer, FrozenElementsStayAndFactorsScaleTheRate) {
  base::ThreadPool pool(2);
  std::vector<float> values(100, 1.0f), gradients(100, 0.5f);
  RangeOptimizerConfig config;
  config.rule = Rule::sgd;
  RangeOptimizer optimizer(config, {{"a", 10, 20, 1.0, Storage::f32}, {"b", 40, 60, 3.0, Storage::f32}},
                           values, gradients, pool);
  optimizer.step(0.1);
  for (std::size_t i = 0; i < values.size(); ++i) {
    const float moved = i >= 10 && i < 20 ? 0.05f : i >= 40 && i < 60 ? 0.15f : 0.0f;
    EXPECT_NEAR(values[i], 1.0f - moved, 1e-7f) << i;
  }
  optimizer.step(0.1);  // v = 0.9 * 0.5 + 0.5
  EXPECT_NEAR(values[10], 1.0f - 0.05f - 0.095f, 1e-7f);
}

TEST(RangeOptimizer, TheClipSeesAllRangesAndNothingElse) {
  base::ThreadPool pool(1);
  std::vector<float> values(8, 0.0f), gradients = {3, 0, 0, 4, 100, 100, 100, 100};
  RangeOptimizerConfig config;
  config.rule = Rule::sgd;
  config.grad_clip = 1.0;
  RangeOptimizer optimizer(config, {{"a", 0, 2, 1.0, Storage::f32}, {"b", 2, 4, 1.0, Storage::f32}}, values,
                           gradients, pool);
  EXPECT_NEAR(optimizer.step(1.0).norm, 5.0, 1e-9);
  EXPECT_NEAR(values[0], -0.6, 1e-6);
  EXPECT_NEAR(values[3], -0.8, 1e-6);
  EXPECT_EQ(values[4], 0.0f);
}

TEST(RangeOptimizer, ANotFiniteGradientChangesNothing) {
  base::ThreadPool pool(1);
  for (auto rule : {Rule::adamw, Rule::sgd}) {
    std::vector<float> values(4, 1.0f), gradients = {1, std::numeric_limits<float>::infinity(), 1, 1};
    RangeOptimizerConfig config;
    config.rule = rule;
    RangeOptimizer optimizer(config, {{"a", 0, 4, 1.0, Storage::f32}}, values, gradients, pool);
    EXPECT_FALSE(optimizer.step(0.1).finite);
    EXPECT_EQ(values, std::vector<float>(4, 1.0f));
    gradients[1] = 1;
    EXPECT_TRUE(optimizer.step(0.1).finite);
    EXPECT_NE(values[1], 1.0f);
  }
}

/// Mean of v over mean of g^2 after `steps` steps of unit Gaussian gradients.
double second_moment(Storage storage, int steps) {
  base::ThreadPool pool(1);
  constexpr std::size_t n = 256;
  std::vector<float> values(n, 0.0f), gradients(n);
  RangeOptimizer optimizer({}, {{"t", 0, n, 1.0, storage}}, values, gradients, pool);
  const base::Random random(1, "gradients");
  for (int s = 0; s < steps; ++s) {
    for (std::size_t i = 0; i < n; ++i)
      gradients[i] = static_cast<float>(random.normal(static_cast<std::uint64_t>(s) * n + i));
    optimizer.step(1e-6);
  }
  double sum = 0;
  for (auto& buffer : optimizer.state())
    if (buffer.name == "t.v")
      for (std::size_t i = 0; i < n; ++i)
        sum += static_cast<double>(reinterpret_cast<const float*>(buffer.bytes.data())[i]);
  return sum / n;
}

TEST(RangeOptimizer, TheSecondMomentOfBf16TablesNeverDecays) {
  // spec/ttt.md section 2: about 2.2 mean g^2 after 5,950 steps, where ordinary Adam has 1.0.
  EXPECT_NEAR(second_moment(Storage::f32, 5950), 1.0, 0.05);
  EXPECT_NEAR(second_moment(Storage::bf16, 5950), 2.2, 0.15);
}

TEST(RangeOptimizer, ResetMakesItNew) {
  base::ThreadPool pool(1);
  for (auto storage : {Storage::f32, Storage::bf16}) {
    std::vector<float> values(4, 1.0f);
    const std::vector<float> gradients = {0.1f, -0.2f, 0.3f, 0.0f};
    RangeOptimizer optimizer({}, {{"a", 0, 4, 1.0, storage}}, values, gradients, pool);
    optimizer.step(0.01);
    const auto first = values;
    optimizer.step(0.02);
    optimizer.reset();
    values.assign(4, 1.0f);
    optimizer.step(0.01);
    EXPECT_EQ(values, first);
    EXPECT_EQ(values[3], 1.0f);
  }
}

}  // namespace
}  // namespace fairway::optim
