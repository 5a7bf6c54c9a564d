// Verdicts from what happened, and the flip test behind them: with target t and everything after it changed,
// scores before t must not change by a bit.
#include "adapt/small.h"
#include "fairway/score/ppm.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <bit>
#include <cmath>

namespace fairway::adapt::testing {
namespace {

using score::Condition;
using Conditions = std::vector<Condition>;
constexpr int S = 16;

std::vector<std::int32_t> flipped(std::vector<std::int32_t> tokens, std::int64_t target) {
  for (auto i = static_cast<std::size_t>(target) + 1; i < tokens.size(); ++i)
    tokens[i] = (tokens[i] + 17) % 48;
  return tokens;
}

/// True when the scores before `target` are the same to the bit.
bool survives_flip(const Protocol& protocol, const std::vector<std::int32_t>& tokens,
                   const EvaluateOptions& options, const std::vector<float>& scores, std::int64_t target) {
  const auto other = evaluate_small(protocol, flipped(tokens, target), options).nll;
  for (std::size_t i = 0; i < static_cast<std::size_t>(target); ++i)
    if (std::bit_cast<std::uint32_t>(other[i]) != std::bit_cast<std::uint32_t>(scores[i])) return false;
  return true;
}

struct Original {
  const char* name;
  Protocol protocol;
  Conditions broken;
};

TEST(Originals, BreakWhatTheSpecificationSaysAndFailTheFlipTest) {
  const auto tokens = small_text(24 * S + 2);
  const auto options = small_options(0, score::Tail::published);
  const Conditions trained_first = {Condition::causal, Condition::score_before_update,
                                    Condition::single_pass};
  const Original originals[] = {
      {"417", two_phase(2), trained_first},
      {"398", full_sgd(2), trained_first},
      {"518", cosine_adamw(2), trained_first},
      {"573", streaming_minimum(2), {Condition::causal, Condition::normalised, Condition::single_pass}}};
  for (const auto& o : originals) {
    SCOPED_TRACE(o.name);
    const auto result = evaluate_small(o.protocol, tokens, options);
    EXPECT_EQ(result.score.verdict.broken, o.broken) << result.score.verdict.text();
    EXPECT_GT(result.learnt_uncommitted, 0);
    for (std::int64_t t : {60, 150})
      EXPECT_FALSE(survives_flip(o.protocol, tokens, options, result.nll, t)) << t;
  }
}

/// The valid twins: chunk by chunk after the score, with each original's optimiser, and the mixture.
std::vector<std::pair<std::string, Protocol>> twins() {
  auto chunked = [](Phase phase) {
    Protocol p;
    p.chunk_windows = 2;
    p.batch_windows = 2;
    phase.epochs = 2;
    p.phases = {std::move(phase)};
    return p;
  };
  auto adam = two_phase(1).phases[0], sgd = full_sgd(1).phases[0], adamw = published_adamw();
  adam.schedule = Schedule::constant;
  std::vector<std::pair<std::string, Protocol>> all = {
      {"norms by Adam", chunked(adam)}, {"SGD", chunked(sgd)}, {"AdamW", chunked(adamw)}};
  auto mixture = chunked(adamw);
  mixture.pass_lr = {0, 1, 3};
  mixture.mixture_weights = {1, 2, 1};
  mixture.combination = score::Combination::mixture;
  all.emplace_back("mixture", mixture);
  auto sharded = chunked(adamw);
  sharded.virtual_ranks = 3;
  all.emplace_back("three virtual ranks", sharded);
  return all;
}

TEST(Twins, AreValidAndPassTheFlipTest) {
  const auto tokens = small_text(18 * S + 7);
  for (const auto& [name, protocol] : twins())
    for (int stride : {0, 4}) {
      SCOPED_TRACE(fmt::format("{}, stride {}", name, stride));
      const auto options = small_options(stride, score::Tail::clean);
      const auto result = evaluate_small(protocol, tokens, options);
      EXPECT_EQ(result.score.verdict.text(), "valid");
      EXPECT_EQ(result.missing + result.repeats + result.learnt_uncommitted, 0);
      EXPECT_GT(result.learnt_committed, 0);
      EXPECT_EQ(result.score.tokens, static_cast<std::int64_t>(tokens.size()) - 1);
      for (std::int64_t t : {1, 3 * S, 100, 18 * S + 5})
        EXPECT_TRUE(survives_flip(protocol, tokens, options, result.nll, t)) << t;
    }
}

TEST(Twins, LearnSomething) {
  const auto tokens = small_text(60 * S + 1);
  for (const auto& [name, protocol] : twins()) {
    auto still = protocol;
    still.pass_lr.assign(protocol.pass_lr.size(), 0);
    const auto options = small_options(0, score::Tail::clean);
    EXPECT_LT(evaluate_small(protocol, tokens, options).score.loss,
              evaluate_small(still, tokens, options).score.loss - 0.005)
        << name;
  }
}

TEST(Streaming, ARotatedPassIsNotCausalEvenAsAMixture) {
  auto p = twins()[3].second;
  p.rotate = true;
  const auto result = evaluate_small(p, small_text(18 * S + 1), small_options(0, score::Tail::clean));
  EXPECT_THAT(result.score.verdict.broken, ::testing::Contains(Condition::causal));
}

TEST(Streaming, AMinimumInOrderBreaksTheDistributionOnly) {
  auto p = twins()[3].second;
  p.mixture_weights.clear();
  p.combination = score::Combination::minimum;
  const auto result = evaluate_small(p, small_text(18 * S + 1), small_options(0, score::Tail::clean));
  EXPECT_EQ(result.score.verdict.broken, (Conditions{Condition::normalised, Condition::single_pass}));
}

TEST(Streaming, TrajectoriesStartFromTheSameWeightsToTheBit) {
  // The best of two equal trajectories is either of them, side by side or one after the other.
  auto p = twins()[2].second;
  const auto tokens = small_text(18 * S + 7);
  const auto options = small_options(0, score::Tail::clean);
  const auto one = evaluate_small(p, tokens, options).nll;
  p.pass_lr = {1, 1};
  p.combination = score::Combination::minimum;
  EXPECT_EQ(evaluate_small(p, tokens, options).nll, one);
}

TEST(Streaming, ShardsOfVirtualRanksAreModelsOfTheirOwn) {
  auto p = twins()[2].second;
  p.virtual_ranks = 3;
  const auto tokens = small_text(18 * S + 1);
  const auto options = small_options(0, score::Tail::clean);
  const auto whole = evaluate_small(p, tokens, options).nll;
  p.virtual_ranks = 1;
  for (std::int64_t r = 0; r < 3; ++r) {
    const std::vector<std::int32_t> shard(tokens.begin() + r * 6 * S, tokens.begin() + (r + 1) * 6 * S + 1);
    const auto alone = evaluate_small(p, shard, options).nll;
    for (std::int64_t i = 0; i < 6 * S; ++i)
      ASSERT_EQ(alone[static_cast<std::size_t>(i)], whole[static_cast<std::size_t>(r * 6 * S + i)])
          << r << " " << i;
  }
}

TEST(Streaming, EachPassReportsItsOwnRateForEachShard) {
  auto p = twins()[3].second;
  p.virtual_ranks = 3;
  const auto result = evaluate_small(p, small_text(18 * S + 1), small_options(0, score::Tail::clean));
  ASSERT_EQ(result.training.size(), 2u) << "a pass of factor 0 trains nothing";
  for (std::size_t k = 0; k < 2; ++k) {
    EXPECT_EQ(result.training[k].learning_rate, std::vector<double>(3, p.phases[0].lr * p.pass_lr[k + 1]));
    EXPECT_EQ(result.training[k].loss.size(), 3u);
  }
}

TEST(Evaluate, TargetsScoredAgainAreNotMissing) {
  const auto result =
      evaluate_small(full_sgd(1), small_text(18 * S + 7), small_options(4, score::Tail::published));
  EXPECT_GT(result.repeats, 0);
  EXPECT_EQ(result.missing, 0);
}

TEST(Evaluate, ACountModelIsPartOfEveryEnteredScore) {
  auto protocols = twins();
  protocols.emplace_back("before the score", full_sgd(2));
  protocols.emplace_back("targets left out", streaming_minimum(2));
  const auto tokens = small_text(18 * S + 7);
  for (const auto& [name, protocol] : protocols) {
    SCOPED_TRACE(name);
    auto options = protocol.shards == Shards::targets ? small_options(0, score::Tail::published)
                                                      : small_options(4, score::Tail::clean);
    const auto alone = evaluate_small(protocol, tokens, options);
    options.ppm_weight = 0.25;
    const auto blended = evaluate_small(protocol, tokens, options);
    score::PpmC counts(48);
    for (std::size_t i = 0; i < alone.nll.size(); ++i) {
      ASSERT_EQ(std::isnan(blended.nll[i]), std::isnan(alone.nll[i])) << i;
      if (std::isnan(alone.nll[i])) continue;
      const double p = 0.75 * std::exp(-alone.nll[i]) + 0.25 * counts.probability(tokens[i + 1], tokens[i]);
      ASSERT_NEAR(blended.nll[i], -std::log(p), 1e-5) << i;
      counts.add(tokens[i + 1], tokens[i]);
    }
    EXPECT_EQ(blended.score.verdict.broken, alone.score.verdict.broken);
    EXPECT_THAT(blended.score.verdict.notes, ::testing::Contains(::testing::HasSubstr("0.25 of each")));
    if (blended.score.verdict.valid()) {
      EXPECT_TRUE(survives_flip(protocol, tokens, options, blended.nll, 100));
    }
  }
}

TEST(Evaluate, SeveralThreadsGiveTheSameBits) {
  const auto tokens = small_text(12 * S + 1);
  const auto config = small_config();
  const auto weights = small_weights(config);
  const auto p = twins()[3].second;
  const auto options = small_options(4, score::Tail::clean);
  std::vector<float> first;
  for (int threads : {1, 3}) {
    const exec::Engine own(with_threads(threads));
    const auto nll = evaluate(p, config, weights, own, std::span<const std::int32_t>(tokens), options).nll;
    if (first.empty()) first = nll;
    EXPECT_EQ(nll, first);
  }
}

TEST(Evaluate, AuditedDistributionsSumToOne) {
  auto options = small_options(4, score::Tail::clean);
  options.audit_windows = 12;
  for (const auto& [name, protocol] : twins()) {
    const auto audit = evaluate_small(protocol, small_text(18 * S + 7), options).audit;
    EXPECT_GT(audit.distributions, 30) << name;
    EXPECT_LT(audit.worst, 1e-5) << name;
  }
}

TEST(Evaluate, AnAuditWithoutANumberIsNeverWithinItsBound) {
  AuditResult audit;
  audit.add(1e-6);
  EXPECT_NEAR(audit.worst, 1e-6, 1e-12);
  audit.add(std::nan(""));
  audit.add(0);
  EXPECT_EQ(audit.distributions, 3);
  EXPECT_FALSE(audit.worst <= 1e-5);
}

TEST(Evaluate, StopsAtWhatWasAskedFor) {
  const auto tokens = small_text(18 * S + 7);
  auto options = small_options(0, score::Tail::clean);
  const auto whole = evaluate_small(twins()[2].second, tokens, options);
  options.until = 5 * S;
  const auto part = evaluate_small(twins()[2].second, tokens, options);
  EXPECT_GE(part.score.tokens, 5 * S);
  EXPECT_LT(part.score.tokens, 8 * S);
  for (std::size_t i = 0; i < 5 * S; ++i) ASSERT_EQ(part.nll[i], whole.nll[i]);
}

TEST(Evaluate, BudgetsAreForecastAndEnforced) {
  const auto tokens = small_text(18 * S + 7);
  auto options = small_options(0, score::Tail::clean);
  options.budget_seconds = 1e-9;
  try {
    evaluate_small(twins()[2].second, tokens, options);
    FAIL() << "ran";
  } catch (const base::Error& e) {
    EXPECT_EQ(e.kind(), base::ErrorKind::input);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("budget.eval_seconds"));
  }
  options.budget = Budget::report;
  const auto result = evaluate_small(twins()[2].second, tokens, options);
  EXPECT_TRUE(result.over_budget);
  EXPECT_GT(result.forecast_seconds, 0);
}

TEST(Evaluate, ADivergingAdaptationNamesTheKey) {
  auto p = full_sgd(1);
  p.phases[0].lr = 1e30;
  try {
    evaluate_small(p, small_text(12 * S + 1), small_options(0, score::Tail::clean));
    FAIL() << "ran";
  } catch (const base::Error& e) {
    EXPECT_EQ(e.kind(), base::ErrorKind::failure);
    EXPECT_THAT(e.what(), ::testing::HasSubstr("lower adapt.lr"));
  }
}

}  // namespace
}  // namespace fairway::adapt::testing
