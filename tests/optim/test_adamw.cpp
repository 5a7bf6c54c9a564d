#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <vector>

#include "fairway/base/error.h"
#include "helpers.h"
#include "support/compare.h"

namespace fairway::optim {
namespace {

/// The formula of docs/spec/training.md section 3 on one number, in double, with a rounding on each store.
template <class Round>
struct Reference {
  UpdateRule config;
  Round round;
  double m = 0, v = 0;
  int k = 0;
  double operator()(double p, double g, double lr) {
    ++k;
    const bool coupled = config.kind == RuleKind::adam;
    if (coupled) g += config.weight_decay * p;
    if (!coupled) p *= 1 - lr * config.weight_decay;
    const double first = config.beta1 * m + (1 - config.beta1) * g,
                 second = config.beta2 * v + (1 - config.beta2) * g * g;
    p -= lr * (first / (1 - std::pow(config.beta1, k))) /
         (std::sqrt(second / (1 - std::pow(config.beta2, k))) + config.eps);
    m = round(first);
    v = round(second);
    return round(p);
  }
};

double worst_error(const UpdateRule& rule) {
  constexpr std::size_t n = 20'011;  // more than one block, no multiple of a vector
  base::ThreadPool pool(2);
  auto values = normals("p", n);
  std::vector<float> gradient(n);
  const auto exact = [](double x) { return x; };
  std::vector<Reference<decltype(exact)>> reference(n, {rule, exact});
  std::vector<double> expected(values.begin(), values.end());
  const auto adam = optimizer_of(one_group(rule, {{"p", {0, n}}}), values, gradient, pool);
  testing::Largest worst;
  for (int step = 0; step < 12; ++step) {
    const double lr = 0.035 * (1 - 0.05 * step);
    std::ranges::copy(normals("g" + std::to_string(step), n, 0.005), gradient.begin());  // in place
    adam->step(at_rate(lr));
    for (std::size_t i = 0; i < n; ++i) {
      expected[i] = reference[i](expected[i], static_cast<double>(gradient[i]), lr);
      worst.see(std::abs(values[i] - expected[i]));
    }
  }
  std::int64_t steps = 0;
  std::memcpy(&steps, state_of(*adam).at(std::string(base::name_of(rule.kind)) + ".p.step").data(),
              sizeof steps);
  EXPECT_EQ(steps, 12);
  return worst.value();
}

constexpr UpdateRule adamw{.beta2 = 0.95, .weight_decay = 0.04};

TEST(AdamW, FollowsTheFormula) { EXPECT_LE(worst_error(adamw), 2e-6); }
TEST(AdamW, WithoutWeightDecay) { EXPECT_LE(worst_error({.beta2 = 0.95}), 2e-6); }
TEST(AdamW, CoupledDecayIsPlainAdam) {
  EXPECT_LE(worst_error({.kind = RuleKind::adam, .beta2 = 0.95, .weight_decay = 0.04}), 2e-6);
}

TEST(AdamW, Bf16StoresAreRounded) {
  constexpr std::size_t n = 4'097;
  base::ThreadPool pool(1);
  auto values = normals("p", n);
  for (auto& value : values) value = tensor::round_to_bf16(value);
  const auto round = [](double x) { return tensor::round_to_bf16(static_cast<float>(x)); };
  std::vector<float> gradient(n);
  const auto config = one_group(adamw, {{"p", {0, n}}}, tensor::DType::bf16);
  const auto adam = optimizer_of(config, values, gradient, pool);
  std::vector<Reference<decltype(round)>> reference(n, {adamw, round});
  std::size_t off = 0;
  for (int step = 0; step < 10; ++step) {
    std::ranges::copy(normals("g" + std::to_string(step), n, 0.02), gradient.begin());  // in place
    auto expected = values;
    for (std::size_t i = 0; i < n; ++i)
      expected[i] = static_cast<float>(reference[i](values[i], gradient[i], 0.035));
    adam->step(at_rate(0.035));
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_EQ(values[i], tensor::round_to_bf16(values[i]));
      // fp32 and fp64 arithmetic may fall on two sides of a rounding boundary, then by one unit in the last
      // place.
      ASSERT_NEAR(values[i], expected[i], std::max(std::abs(values[i]), 0.25f) / 128.0f);
      off += values[i] != expected[i];
    }
  }
  EXPECT_LT(off, n / 20) << "nearly all stores agree exactly with the reference over ten steps";
  for (const std::string name : {"adamw.p.m", "adamw.p.v"})
    for (const float moment : floats_of(state_of(*adam).at(name)))
      ASSERT_EQ(moment, tensor::round_to_bf16(moment)) << name;
}

TEST(AdamW, SizesMustFit) {
  base::ThreadPool pool(1);
  std::vector<float> values(8), gradient(7);
  EXPECT_THROW(optimizer_of(one_group(adamw, {{"p", {0, 7}}}), values, gradient, pool), base::Error);
}

}  // namespace
}  // namespace fairway::optim
