// What an evaluation refuses to go on from, and how it measures a distribution.
#include "adapt/small.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>

namespace fairway::adapt::testing {
namespace {

using ::testing::HasSubstr;
constexpr int S = 16;

TEST(Audit, SumsBelowOneAreSeenAsMuchAsThoseAbove) {
  const std::vector<float> logits = {0, 1, -2, 0.5f};
  double sum = 0;
  for (const float l : logits) sum += std::exp(static_cast<double>(l));
  for (std::int32_t target = 0; target < 4; ++target) {
    const auto right = std::log(sum) - static_cast<double>(logits[static_cast<std::size_t>(target)]);
    EXPECT_NEAR(distribution_error(static_cast<float>(right), logits, target), 0, 1e-6);
    // A score that claims e^-0.1 or e^0.1 of the right probability scales all of them.
    EXPECT_NEAR(distribution_error(static_cast<float>(right + 0.1), logits, target), 1 - std::exp(-0.1),
                1e-6);
    EXPECT_NEAR(distribution_error(static_cast<float>(right - 0.1), logits, target), std::exp(0.1) - 1, 1e-6);
  }
}

Protocol streaming_matrices() {
  Protocol p;
  p.chunk_windows = p.batch_windows = 2;
  p.phases[0].train = {"matrices"};
  return p;
}

TEST(Evaluate, AnInfiniteGradientWithAFiniteLossIsAFailure) {
  const auto config = small_config();
  auto weights = small_weights(config);
  // Nothing flows through the last MLP's projection, but its gradient is what stands before it times 1e38.
  for (auto& v : weights.value("blocks.2.mlp.proj.weight").span<float>()) v = 0;
  for (auto& v : weights.value("blocks.2.mlp.fc.weight").span<float>()) v *= 1e4f;
  for (auto& v : weights.value("blocks.2.mlp_scale").span<float>()) v = 1e38f;
  const auto tokens = small_text(12 * S + 1);
  const auto options = small_options(0, score::Tail::clean);
  try {
    evaluate(streaming_matrices(), config, weights, engine(), std::span<const std::int32_t>(tokens), options);
    FAIL() << "went on";
  } catch (const base::Error& e) {
    EXPECT_EQ(e.kind(), base::ErrorKind::failure);
    EXPECT_THAT(e.what(), HasSubstr("a gradient is not finite"));
  }
  auto still = streaming_matrices();
  still.pass_lr = {0};
  EXPECT_TRUE(std::isfinite(
      evaluate(still, config, weights, engine(), std::span<const std::int32_t>(tokens), options).score.loss))
      << "the loss is finite";
}

TEST(Streaming, MixtureWeightsAreInProportion) {
  auto p = streaming_matrices();
  p.phases[0].lr = 0.01;
  p.pass_lr = {0, 1};
  p.combination = score::Combination::mixture;
  const auto tokens = small_text(12 * S + 1);
  auto scores = [&](std::vector<double> weights) {
    p.mixture_weights = std::move(weights);
    return evaluate_small(p, tokens, small_options(0, score::Tail::clean)).nll;
  };
  const auto equal = scores({});
  EXPECT_EQ(scores({1, 1}), equal);
  EXPECT_EQ(scores({0.25, 0.25}), equal);
  EXPECT_EQ(scores({8, 8}), equal);
  EXPECT_NE(scores({1, 3}), equal);
  // A quarter of one and three quarters of the other, by hand.
  p.combination = score::Combination::single;
  auto alone = [&](double lr) {
    p.mixture_weights.clear();
    p.pass_lr = {lr};
    return evaluate_small(p, tokens, small_options(0, score::Tail::clean)).nll;
  };
  const auto a = alone(0), b = alone(1);
  p.pass_lr = {0, 1};
  p.combination = score::Combination::mixture;
  const auto mixed = scores({1, 3});
  for (std::size_t i = 0; i < a.size(); ++i)
    EXPECT_NEAR(
        mixed[i],
        -std::log(0.25 * std::exp(-static_cast<double>(a[i])) + 0.75 * std::exp(-static_cast<double>(b[i]))),
        1e-5);
}

TEST(Evaluate, TimeOverTheBudgetIsAFailureWhenEnforced) {
  auto p = streaming_matrices();
  auto options = small_options(0, score::Tail::clean);
  options.budget = Budget::report;
  options.budget_seconds = 1e-9;
  const auto r = evaluate_small(p, small_text(12 * S + 1), options);
  EXPECT_TRUE(r.over_budget);
  options.budget_seconds = 1e9;
  EXPECT_FALSE(evaluate_small(p, small_text(12 * S + 1), options).over_budget);
}

TEST(Evaluate, ATextOfAnyLengthIsScoredWhereNothingIsTrained) {
  Protocol p;
  p.when = When::train_then_score;
  p.phases[0].epochs = 0;
  for (const std::int64_t n : {2, 10, S, S + 1, 3 * S}) {
    const auto r = evaluate_small(p, small_text(n), small_options(0, score::Tail::clean));
    EXPECT_EQ(r.score.tokens, n - 1);
    EXPECT_EQ(r.score.verdict.text(), "valid");
    EXPECT_EQ(r.tokens_trained, 0);
  }
}

TEST(Evaluate, CountsWhatItTrainedOn) {
  auto p = streaming_matrices();  // chunks of 2 windows: 6 chunks, the last is not trained on
  p.phases[0].epochs = 3;
  const auto r = evaluate_small(p, small_text(12 * S + 1), small_options(0, score::Tail::clean));
  EXPECT_EQ(r.tokens_trained, 5 * 2 * 3 * S);
  EXPECT_EQ(r.learnt_committed, 5 * 2 * 3 * S);
  ASSERT_EQ(r.training.size(), 1u);
  EXPECT_EQ(r.training[0].steps, 5 * 3);
  EXPECT_EQ(r.training[0].windows, 5 * 2 * 3);
  EXPECT_EQ(r.score.windows, 12);
  EXPECT_EQ(r.score.stride, S);
  EXPECT_EQ(r.missing + r.repeats, 0);
  std::int64_t bytes = 0;
  const auto tokens = small_text(12 * S + 1);
  for (std::size_t i = 1; i < tokens.size(); ++i) bytes += tokens[i] % 3 + 1;
  EXPECT_EQ(r.score.bytes, bytes);
  double nll = 0;
  for (const float v : r.nll) nll += static_cast<double>(v);
  EXPECT_DOUBLE_EQ(r.score.nll, nll);
  EXPECT_DOUBLE_EQ(r.score.loss, nll / (12 * S));
  EXPECT_DOUBLE_EQ(r.score.bits_per_byte, nll / std::log(2.0) / static_cast<double>(bytes));
}

}  // namespace
}  // namespace fairway::adapt::testing
