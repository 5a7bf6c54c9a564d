// What is stored rounded and what is not, and the decay of each rule, to the bit where a test can say it.
#include "fairway/optim/average.h"
#include "helpers.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace fairway::optim {
namespace {

using tensor::DType;
using tensor::round_to_bf16;

base::ThreadPool& pool() {
  static base::ThreadPool threads(2);
  return threads;
}

bool all_rounded(std::span<const float> values) {
  return std::ranges::all_of(values, [](float v) { return v == round_to_bf16(v); });
}

TEST(Optimizer, Bf16IsForEmbeddingsOnly) {
  // An embedding of 64, scalars of 64, a matrix of 8 x 8.
  TrainingConfig config;
  config.embeddings = DType::bf16;
  const TrainedParameters parameters{
      .matrices = {{"w", {128, 192}, 8, 8}}, .embeddings = {{"t", {0, 64}}}, .scalars = {{"s", {64, 128}}}};
  auto values = normals("values", 192), gradients = normals("gradients", 192);
  for (std::size_t i = 0; i < 64; ++i) values[i] = round_to_bf16(values[i]);
  auto plain_values = values;
  const auto optimizer = optimizer_of(optimizer_config(config, parameters), values, gradients, pool());
  config.embeddings = DType::f32;
  const auto plain = optimizer_of(optimizer_config(config, parameters), plain_values, gradients, pool());
  for (int i = 0; i < 3; ++i)
    for (auto* one : {&optimizer, &plain}) (*one)->step(step_values(config, 1, i));
  const std::span<const float> now(values), wide(plain_values);
  EXPECT_TRUE(all_rounded(now.first(64)));
  EXPECT_FALSE(all_rounded(wide.first(64)));
  EXPECT_TRUE(std::ranges::equal(now.subspan(64, 128), wide.subspan(64, 128)))
      << "scalars and matrices know nothing of it";
  EXPECT_FALSE(all_rounded(now.subspan(64, 64)));
  EXPECT_FALSE(all_rounded(now.subspan(128)));
  for (const auto& [name, bytes] : state_of(*optimizer))
    if (!name.ends_with(".step")) {
      EXPECT_EQ(all_rounded(floats_of(bytes)), name.starts_with("adamw.t.")) << name;
    }
}

TEST(Ema, ABf16AverageIsRoundedFromItsStartOn) {
  const auto initial = normals("initial", 100), later = normals("later", 100), next = normals("next", 100);
  Ema ema(0.75, initial, DType::bf16);
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
double one_step(RuleKind rule, double p, double g, double lr, double decay, double eps) {
  if (rule == RuleKind::adam) g += decay * p;
  if (rule == RuleKind::adamw) p *= 1 - lr * decay;
  return p - lr * g / (std::sqrt(g * g) + eps);
}

TEST(Rules, DecayIsCoupledForAdamAndDecoupledForAdamW) {
  for (const auto rule : {RuleKind::adam, RuleKind::adamw})
    for (const auto storage : {DType::f32, DType::bf16})
      for (const double decay : {0.0, 0.5}) {
        // An eps so large that a gradient's size matters in the first step.
        const UpdateRule settings{.kind = rule, .stepwise = true, .eps = 0.25, .weight_decay = decay};
        auto values = normals("values", 50), gradients = normals("gradients", 50);
        const auto config = one_group(settings, {{"r", {0, 50}}}, storage);
        round_to_storage(config, values);
        const auto start = values;
        optimizer_of(config, values, gradients, pool())->step(at_rate(0.1));
        const double tolerance = storage == DType::bf16 ? 0.02 : 1e-6;
        double gap = 0;
        for (std::size_t i = 0; i < 50; ++i) {
          EXPECT_NEAR(values[i], one_step(rule, start[i], gradients[i], 0.1, decay, 0.25), tolerance) << i;
          const auto other = rule == RuleKind::adam ? RuleKind::adamw : RuleKind::adam;
          gap = std::max(gap, std::abs(one_step(rule, start[i], gradients[i], 0.1, decay, 0.25) -
                                       one_step(other, start[i], gradients[i], 0.1, decay, 0.25)));
        }
        if (decay > 0) {
          EXPECT_GT(gap, 2 * tolerance) << "else this test cannot tell the rules apart";
        }
      }
}

TEST(Rules, TheClipsBoundIsTheNormOverAllRanges) {
  std::vector<float> values(4, 0.0f), gradients = {3, 0, 0, 4};
  const UpdateRule rule{.kind = RuleKind::sgd, .momentum = 0};
  const auto config =
      one_group(rule, {{"a", {0, 1}}, {.name = "b", .range = {3, 4}, .lr_factor = 2.0}}, DType::f32, 1);
  EXPECT_DOUBLE_EQ(optimizer_of(config, values, gradients, pool())->step(at_rate(1)).norm, 5);
  EXPECT_NEAR(values[0], -0.6, 1e-6);
  EXPECT_NEAR(values[3], -1.6, 1e-6) << "twice the rate";
  EXPECT_EQ(values[1], 0);
}

TEST(Rules, MuonsMatricesHaveFactorsToo) {
  auto values = normals("values", 128), gradients = normals("gradients", 64);
  gradients.insert(gradients.end(), gradients.begin(), gradients.end());
  const auto before = values;
  const UpdateRule rule{.kind = RuleKind::muon};
  const auto config = one_group(
      rule,
      {{"a", {0, 64}, 8, 8}, {.name = "b", .range = {64, 128}, .rows = 8, .columns = 8, .lr_factor = 2.0}});
  optimizer_of(config, values, gradients, pool())->step(at_rate(0.5));
  for (std::size_t i = 0; i < 64; ++i)
    EXPECT_NEAR(values[64 + i] - before[64 + i], 2 * (values[i] - before[i]), 1e-6);
}

}  // namespace
}  // namespace fairway::optim
