#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/optim/average.h"
#include "fairway/optim/gradient.h"
#include "fairway/tensor/dtype.h"
#include "helpers.h"

namespace fairway::optim {
namespace {

TEST(Ema, StartsFromTheInitialWeights) {
  base::ThreadPool pool(2);
  constexpr std::size_t n = 17'003;
  const auto initial = normals("initial", n);
  Ema ema(0.9, initial);
  std::vector<double> expected(initial.begin(), initial.end());
  for (int step = 0; step < 5; ++step) {
    const auto values = normals("v" + std::to_string(step), n);
    ema.update(values, pool);
    for (std::size_t i = 0; i < n; ++i) expected[i] = 0.9 * expected[i] + 0.1 * values[i];
  }
  for (std::size_t i = 0; i < n; ++i) ASSERT_NEAR(ema.values()[i], expected[i], 1e-6);
}

TEST(Swa, IsTheMeanOfItsSnapshots) {
  base::ThreadPool pool(2);
  constexpr std::size_t n = 17'003;
  Swa swa(n, {{10, 500}});
  std::vector<float> out(n);
  EXPECT_THROW(swa.mean(out, pool), base::Error) << "no snapshot yet";
  std::vector<double> sum(n), sum_bf16(n);
  for (int i = 0; i < 12; ++i) {
    auto values = normals("s" + std::to_string(i), n);
    for (std::size_t j = 10; j < 500; ++j) values[j] = tensor::round_to_bf16(values[j]);
    swa.add(values, pool);
    for (std::size_t j = 0; j < n; ++j) {
      sum[j] += values[j];
      sum_bf16[j] = tensor::round_to_bf16(static_cast<float>(sum_bf16[j] + values[j]));
    }
  }
  EXPECT_EQ(swa.count(), 12);
  swa.mean(out, pool);
  std::size_t differ = 0;
  for (std::size_t j = 0; j < n; ++j) {
    if (j >= 10 && j < 500) {
      ASSERT_EQ(out[j], tensor::round_to_bf16(static_cast<float>(sum_bf16[j] / 12)));
      differ += out[j] != static_cast<float>(sum[j] / 12);
    } else {
      ASSERT_NEAR(out[j], sum[j] / 12, 1e-6);
    }
  }
  EXPECT_GT(differ, 400u) << "the bf16 range is visibly rounded";
}

/// Copies a state's buffers into another's of the same kind; their names are returned.
std::vector<std::string> copy_state(std::vector<StateBuffer> to, const std::vector<StateBuffer>& from) {
  std::vector<std::string> names;
  EXPECT_EQ(to.size(), from.size());
  for (std::size_t i = 0; i < std::min(to.size(), from.size()); ++i) {
    EXPECT_EQ(to[i].name, from[i].name);
    EXPECT_EQ(to[i].bytes.size(), from[i].bytes.size());
    std::ranges::copy(from[i].bytes, to[i].bytes.begin());
    names.push_back(to[i].name);
  }
  return names;
}

TEST(Averages, GoOnFromTheirSavedState) {
  base::ThreadPool pool(2);
  constexpr std::size_t n = 1'003;
  const auto initial = normals("initial", n), first = normals("first", n), second = normals("second", n);
  Ema ema(0.9, initial), ema_again(0.9, second);
  Swa swa(n), swa_again(n);
  ema.start(first);
  ema.update(second, pool);
  for (const auto* values : {&first, &second}) swa.add(*values, pool);
  EXPECT_EQ(copy_state(ema_again.state("x."), ema.state("x.")),
            (std::vector<std::string>{"x.ema.count", "x.ema"}));
  EXPECT_EQ(copy_state(swa_again.state("x."), swa.state("x.")),
            (std::vector<std::string>{"x.swa.count", "x.swa.sum"}));
  EXPECT_EQ(ema_again.count(), 2);
  EXPECT_EQ(swa_again.count(), 2);
  for (auto* one : {&ema, &ema_again}) one->update(first, pool);
  for (auto* one : {&swa, &swa_again}) one->add(initial, pool);
  EXPECT_TRUE(std::ranges::equal(ema_again.values(), ema.values()));
  std::vector<float> mean(n), mean_again(n);
  swa.mean(mean, pool);
  swa_again.mean(mean_again, pool);
  EXPECT_EQ(mean_again, mean);
}

TEST(Swa, RejectsRangesOutside) { EXPECT_THROW(Swa(10, {{5, 11}}), base::Error); }

TEST(MeanSquares, AreThoseOfTheMatricesOverSteps) {
  base::ThreadPool pool(2);
  MeanSquares squares({{"a", {2, 8}, 2, 3}, {"b", {10, 12}, 1, 2}});
  EXPECT_TRUE(squares.mean().empty());
  std::vector<float> gradients(12, 100.0f);
  for (const float g : {1.0f, 3.0f}) {
    std::fill(gradients.begin() + 2, gradients.begin() + 8, g);
    gradients[10] = g, gradients[11] = 0;
    squares.add(gradients, pool);
  }
  EXPECT_EQ(squares.mean(), (std::map<std::string, double>{{"a", 5.0}, {"b", 2.5}}));
  ASSERT_EQ(squares.state().size(), 1u);
  EXPECT_EQ(squares.state()[0].name, "sensitivity.sums");
  EXPECT_EQ(squares.state()[0].bytes.size(), 3 * sizeof(double));
}

TEST(GradientNorm, IsExactOverSeveralBuffers) {
  base::ThreadPool pool(2);
  const auto a = normals("a", 50'001, 3.0), b = normals("b", 7), c = normals("c", 16'384, 1e-3);
  long double sum = 0;
  for (const auto* part : {&a, &b, &c})
    for (const float value : *part) sum += static_cast<long double>(value) * value;
  GradientNormer normer({a, b, c});
  const auto result = normer(pool);
  EXPECT_TRUE(result.finite);
  EXPECT_NEAR(result.norm, std::sqrt(static_cast<double>(sum)), 1e-12 * result.norm);
}

TEST(GradientNorm, HugeValuesAreFiniteAndBadOnesAreSeen) {
  base::ThreadPool pool(1);
  std::vector<float> g(40'000, 1e38f);
  GradientNormer normer({g});
  EXPECT_TRUE(normer(pool).finite);
  EXPECT_NEAR(normer(pool).norm, 2e40, 1e34);
  for (const std::size_t where : {std::size_t{0}, std::size_t{20'003}, g.size() - 1})
    for (const float bad :
         {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
      const float kept = g[where];
      g[where] = bad;
      EXPECT_FALSE(normer(pool).finite) << bad << " at " << where;
      g[where] = kept;
    }
}

TEST(ClipFactor, IsOneBelowTheThreshold) {
  EXPECT_EQ(clip_factor(0.0, 0.3), 1.0f);
  EXPECT_EQ(clip_factor(0.2, 0.3), 1.0f);
  EXPECT_FLOAT_EQ(clip_factor(3.0, 0.3), static_cast<float>(0.3 / 3.000001));
  EXPECT_EQ(clip_factor(1e9, 0.0), 1.0f) << "0 means no clipping";
}

}  // namespace
}  // namespace fairway::optim
