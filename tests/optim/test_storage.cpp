// What is stored rounded and what is not, and the decay of each rule, to the bit where a test can say it.
#include "fairway/optim/average.h"
#include "fairway/optim/optimizer.h"
#include "fairway/optim/range_optimizer.h"
#include "fairway/tensor/dtype.h"
#include "helpers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace fairway::optim {
namespace {

using tensor::round_to_bf16;

base::ThreadPool& pool() {
  static base::ThreadPool threads(2);
  return threads;
}

bool all_rounded(std::span<const float> values) {
  return std::ranges::all_of(values, [](float v) { return v == round_to_bf16(v); });
}

TEST(Optimizer, Bf16IsForTablesOnly) {
  // A table of 64, scalars of 64, a matrix of 8 x 8.
  OptimizerConfig config;
  config.tables = Storage::bf16;
  config.schedule.total_steps = 100;
  ParameterMap map;
  map.matrices = {{"w", 128, 8, 8}};
  map.tables = {{"t", 0, 64}};
  map.scalars = {{"s", 64, 128}};
  auto values = normals("values", 192);
  const auto gradients = normals("gradients", 192);
  for (std::size_t i = 0; i < 64; ++i) values[i] = round_to_bf16(values[i]);
  auto plain_values = values;
  Optimizer optimizer(config, map, values, gradients, pool());
  auto plain_config = config;
  plain_config.tables = Storage::f32;
  Optimizer plain(plain_config, map, plain_values, gradients, pool());
  for (int i = 0; i < 3; ++i) {
    optimizer.step({i, 0});
    plain.step({i, 0});
  }
  const std::span<const float> now(values), wide(plain_values);
  EXPECT_TRUE(all_rounded(now.first(64)));
  EXPECT_FALSE(all_rounded(wide.first(64)));
  EXPECT_TRUE(std::ranges::equal(now.subspan(64, 128), wide.subspan(64, 128)))
      << "scalars and matrices know nothing of it";
  EXPECT_FALSE(all_rounded(now.subspan(64, 64)));
  EXPECT_FALSE(all_rounded(now.subspan(128)));
  for (auto& s : optimizer.state()) {
    if (s.name.ends_with(".step")) continue;
    const std::span moments(reinterpret_cast<const float*>(s.bytes.data()), s.bytes.size() / sizeof(float));
    EXPECT_EQ(all_rounded(moments), s.name.starts_with("adamw.t.")) << s.name;
  }
  auto rounded = normals("other", 192);
  const auto before = rounded;
  optimizer.round_to_storage(rounded);
  EXPECT_TRUE(all_rounded(std::span<const float>(rounded).first(64)));
  EXPECT_TRUE(std::ranges::equal(std::span(rounded).subspan(64), std::span(before).subspan(64)));
}

TEST(Ema, ABf16AverageIsRoundedFromItsStartOn) {
  const auto initial = normals("initial", 100), later = normals("later", 100), next = normals("next", 100);
  Ema ema(0.75, initial, Storage::bf16);
  EXPECT_TRUE(all_rounded(ema.values()));
  EXPECT_EQ(ema.count(), 0);
  ema.start(later);
  EXPECT_EQ(ema.count(), 1);
  for (std::size_t i = 0; i < 100; ++i) EXPECT_EQ(ema.values()[i], round_to_bf16(later[i]));
  ema.update(next, pool());
  EXPECT_EQ(ema.count(), 2);
  for (std::size_t i = 0; i < 100; ++i)
    EXPECT_EQ(ema.values()[i], round_to_bf16(0.75f * round_to_bf16(later[i]) + 0.25f * next[i])) << i;
  Ema wide(0.75, initial);
  EXPECT_TRUE(std::ranges::equal(wide.values(), initial));
  wide.start(later);
  EXPECT_TRUE(std::ranges::equal(wide.values(), later));
}

TEST(Swa, TheCountIsPartOfTheState) {
  const auto a = normals("a", 40), b = normals("b", 40);
  Swa swa(40);
  swa.add(a, pool());
  swa.add(b, pool());
  Swa other(40);
  auto from = swa.state("x."), to = other.state("x.");
  ASSERT_EQ(from.size(), 2u);
  for (std::size_t i = 0; i < from.size(); ++i) {
    EXPECT_EQ(from[i].name, to[i].name);
    std::ranges::copy(from[i].bytes, to[i].bytes.begin());
  }
  EXPECT_EQ(other.count(), 2);
  std::vector<float> mean(40);
  other.mean(mean, pool());
  for (std::size_t i = 0; i < 40; ++i) EXPECT_EQ(mean[i], (a[i] + b[i]) / 2);
}

/// One step of a rule in double precision, from fresh moments: m / v are g and g^2 whatever the betas.
double one_step(RangeRule rule, double p, double g, double lr, double decay, double eps) {
  if (rule == RangeRule::adam) g += decay * p;
  if (rule == RangeRule::adamw) p *= 1 - lr * decay;
  return p - lr * g / (std::sqrt(g * g) + eps);
}

TEST(RangeOptimizer, DecayIsCoupledForAdamAndDecoupledForAdamW) {
  for (const auto rule : {RangeRule::adam, RangeRule::adamw})
    for (const auto storage : {Storage::f32, Storage::bf16})
      for (const double decay : {0.0, 0.5}) {
        RangeOptimizerConfig config;
        config.rule = rule;
        config.weight_decay = decay;
        config.eps = 0.25;  // so that a gradient's size matters in the first step
        auto values = normals("values", 50);
        const auto gradients = normals("gradients", 50), before = values;
        std::vector<float> start = values;
        if (storage == Storage::bf16)
          for (auto& v : values) v = round_to_bf16(v);
        start = values;
        RangeOptimizer optimizer(config, {{"r", 0, 50, 1.0, storage}}, values, gradients, pool());
        optimizer.step(0.1);
        const double tolerance = storage == Storage::bf16 ? 0.02 : 1e-6;
        double gap = 0;
        for (std::size_t i = 0; i < 50; ++i) {
          EXPECT_NEAR(values[i], one_step(rule, start[i], gradients[i], 0.1, decay, 0.25), tolerance) << i;
          const auto other = rule == RangeRule::adam ? RangeRule::adamw : RangeRule::adam;
          gap = std::max(gap, std::abs(one_step(rule, start[i], gradients[i], 0.1, decay, 0.25) -
                                       one_step(other, start[i], gradients[i], 0.1, decay, 0.25)));
        }
        if (decay > 0) {
          EXPECT_GT(gap, 2 * tolerance) << "else this test cannot tell the rules apart";
        }
      }
}

TEST(RangeOptimizer, TheClipsBoundIsTheNormOverAllRanges) {
  RangeOptimizerConfig config;
  config.rule = RangeRule::sgd;
  config.momentum = 0;
  config.grad_clip = 1;
  std::vector<float> values(4, 0.0f);
  const std::vector<float> gradients = {3, 0, 0, 4};
  RangeOptimizer optimizer(config, {{"a", 0, 1}, {"b", 3, 4, 2.0}}, values, gradients, pool());
  EXPECT_DOUBLE_EQ(optimizer.step(1).norm, 5);
  EXPECT_NEAR(values[0], -0.6, 1e-6);
  EXPECT_NEAR(values[3], -1.6, 1e-6) << "twice the rate";
  EXPECT_EQ(values[1], 0);
}

}  // namespace
}  // namespace fairway::optim
