#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/optim/adamw.h"
#include "fairway/tensor/dtype.h"
#include "helpers.h"
#include "support/compare.h"

namespace fairway::optim {
namespace {

/// The formula of spec/training.md section 3 on one number, in double, with a rounding on each store.
template <class Round>
struct Reference {
  AdamWConfig config;
  Round round;
  double m = 0, v = 0;
  int k = 0;
  double operator()(double p, double g, double lr) {
    ++k;
    if (!config.decoupled) g += config.weight_decay * p;
    if (config.decoupled) p *= 1 - lr * config.weight_decay;
    const double first = config.beta1 * m + (1 - config.beta1) * g,
                 second = config.beta2 * v + (1 - config.beta2) * g * g;
    p -= lr * (first / (1 - std::pow(config.beta1, k))) /
         (std::sqrt(second / (1 - std::pow(config.beta2, k))) + config.eps);
    m = round(first);
    v = round(second);
    return round(p);
  }
};

double worst_error(const AdamWConfig& config) {
  constexpr std::size_t n = 20'011;  // more than one block, no multiple of a vector
  base::ThreadPool pool(2);
  auto values = normals("p", n);
  const auto round = [&](double x) {
    return config.storage == Storage::bf16 ? tensor::round_to_bf16(static_cast<float>(x)) : x;
  };
  std::vector<Reference<decltype(round)>> reference(n, {config, round});
  std::vector<double> expected(n);
  for (std::size_t i = 0; i < n; ++i) expected[i] = values[i] = static_cast<float>(round(values[i]));
  AdamW adam(config, n);
  testing::Largest worst;
  for (int step = 0; step < 12; ++step) {
    const double lr = 0.035 * (1 - 0.05 * step);
    const auto gradient = normals("g" + std::to_string(step), n, 0.02);
    adam.step(values, gradient, lr, 0.25f, pool);
    for (std::size_t i = 0; i < n; ++i) {
      expected[i] = reference[i](expected[i], 0.25 * gradient[i], lr);
      worst.see(std::abs(values[i] - expected[i]));
    }
  }
  EXPECT_EQ(adam.steps_taken(), 12);
  return worst.value();
}

TEST(AdamW, FollowsTheFormula) { EXPECT_LE(worst_error({}), 2e-6); }
TEST(AdamW, WithoutWeightDecay) { EXPECT_LE(worst_error({.weight_decay = 0.0}), 2e-6); }
TEST(AdamW, CoupledDecayIsPlainAdam) {
  EXPECT_LE(worst_error({.weight_decay = 0.04, .decoupled = false}), 2e-6);
}

TEST(AdamW, Bf16StoresAreRounded) {
  constexpr std::size_t n = 4'097;
  base::ThreadPool pool(1);
  auto values = normals("p", n);
  for (auto& value : values) value = tensor::round_to_bf16(value);
  const auto round = [](double x) { return tensor::round_to_bf16(static_cast<float>(x)); };
  const AdamWConfig config{.storage = Storage::bf16};
  AdamW adam(config, n);
  std::vector<Reference<decltype(round)>> reference(n, {config, round});
  std::size_t off = 0;
  for (int step = 0; step < 10; ++step) {
    const auto gradient = normals("g" + std::to_string(step), n, 0.02);
    auto expected = values;
    for (std::size_t i = 0; i < n; ++i)
      expected[i] = static_cast<float>(reference[i](values[i], gradient[i], 0.035));
    adam.step(values, gradient, 0.035, 1.0f, pool);
    for (std::size_t i = 0; i < n; ++i) {
      ASSERT_EQ(values[i], tensor::round_to_bf16(values[i]));
      // fp32 and fp64 arithmetic may fall on two sides of a rounding boundary, then by one unit in the last
      // place.
      ASSERT_NEAR(values[i], expected[i], std::max(std::abs(values[i]), 0.25f) / 128.0f);
      off += values[i] != expected[i];
    }
  }
  EXPECT_LT(off, n / 20) << "nearly all stores agree exactly with the reference over ten steps";
  for (const auto& buffer : adam.state("")) {
    if (buffer.bytes.size() != n * sizeof(float)) continue;
    const auto* moments = reinterpret_cast<const float*>(buffer.bytes.data());
    for (std::size_t i = 0; i < n; ++i)
      ASSERT_EQ(moments[i], tensor::round_to_bf16(moments[i])) << buffer.name;
  }
}

TEST(AdamW, SizesMustFit) {
  base::ThreadPool pool(1);
  AdamW adam({}, 8);
  std::vector<float> values(8), gradient(7);
  EXPECT_THROW(adam.step(values, gradient, 0.1, 1.0f, pool), base::Error);
}

}  // namespace
}  // namespace fairway::optim
