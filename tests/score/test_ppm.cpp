#include "fairway/score/ppm.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "fairway/score/score.h"

namespace fairway::score {
namespace {

TEST(PpmC, FollowsItsFormula) {
  PpmC ppm(4);
  EXPECT_EQ(ppm.probability(2, 1), 0.25) << "knows nothing: uniform";
  ppm.add(2, 1);
  ppm.add(2, 1);
  ppm.add(3, 1);
  ppm.add(0, 2);
  // Order 0: four tokens, three different; n_2 = 2, n_3 = 1, n_0 = 1, n_1 = 0.
  const double p2 = (2 + 3 * 0.25) / 7, p1 = 3 * 0.25 / 7;
  // Context 1: three tokens, two different.
  EXPECT_DOUBLE_EQ(ppm.probability(2, 1), (2 + 2 * p2) / 5);
  EXPECT_DOUBLE_EQ(ppm.probability(1, 1), 2 * p1 / 5);
  EXPECT_DOUBLE_EQ(ppm.probability(2, 3), p2) << "a context never seen: order 0";
}

TEST(PpmC, IsADistributionWhateverItSaw) {
  const base::Random random(8, "ppm");
  PpmC ppm(23);
  for (std::uint64_t i = 0; i < 2000; ++i) {
    if (i % 97 == 0)
      for (std::int32_t context = 0; context < 23; ++context) {
        double sum = 0;
        for (std::int32_t x = 0; x < 23; ++x) {
          EXPECT_GT(ppm.probability(x, context), 0);
          sum += ppm.probability(x, context);
        }
        ASSERT_NEAR(sum, 1, 1e-12) << i;
      }
    ppm.add(static_cast<std::int32_t>(random.below(2 * i, 1 + i % 23)),
            static_cast<std::int32_t>(random.below(2 * i + 1, 23)));
  }
  EXPECT_THROW(ppm.add(23, 0), base::Error);
  EXPECT_THROW(ppm.probability(0, -1), base::Error);
}

/// A model that finds all 8 tokens equally likely.
class Uniform final : public WindowScorer {
 public:
  int rows() const override { return 3; }
  void score(std::span<const std::int32_t>, std::span<const std::int32_t>, int,
             std::span<float> nll) override {
    std::fill(nll.begin(), nll.end(), std::log(8.0f));
  }
};

ScoreResult score_tokens(std::span<const std::int32_t> tokens, std::int32_t stride, Tail tail,
                         double weight) {
  Uniform model;
  ScoreOptions options;
  options.ppm_weight = weight;
  options.vocab_size = 8;
  options.text = [](std::int64_t targets) { return TextReference{{{0, targets}}}; };
  const auto n = static_cast<std::int64_t>(tokens.size());
  const auto plan = stride > 0 ? WindowPlan::sliding(n, 16, stride, tail) : WindowPlan::plain(n, 16, tail);
  return score(
      plan, tokens, model, [](const TokenView&, std::int64_t) { return 1; }, options);
}

TEST(PpmBlend, EachTokenIsScoredByTheTextBeforeItInAnyPlan) {
  const base::Random random(9, "ppm");
  std::vector<std::int32_t> tokens(400);
  for (std::size_t i = 0; i < tokens.size(); ++i)  // mostly the successor of the one before
    tokens[i] = static_cast<std::int32_t>(random.below(i, 5) == 0 ? random.below(i + 1000, 8) : i % 8);
  PpmC ppm(8);
  double expected = 0;
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    expected -= std::log(0.95 / 8 + 0.05 * ppm.probability(tokens[i], tokens[i - 1]));
    ppm.add(tokens[i], tokens[i - 1]);
  }
  for (const std::int32_t stride : {0, 4, 7}) {
    const auto result = score_tokens(tokens, stride, Tail::clean, 0.05);
    EXPECT_NEAR(result.nll, expected, 1e-3) << "stride " << stride;
    EXPECT_TRUE(result.verdict.valid());
    ASSERT_EQ(result.verdict.notes.size(), 1u);
    EXPECT_NE(result.verdict.notes[0].find("PPM-C"), std::string::npos);
  }
  EXPECT_LT(expected, 399 * std::log(8.0)) << "this text is one that counts help with";
  EXPECT_NEAR(score_tokens(tokens, 4, Tail::clean, 0).nll, 399 * std::log(8.0), 1e-3);
  EXPECT_TRUE(score_tokens(tokens, 4, Tail::clean, 0).verdict.notes.empty());
}

TEST(PpmBlend, ATokenCannotChangeItsOwnOrEarlierScores) {
  const base::Random random(10, "ppm");
  std::vector<std::int32_t> tokens(120);
  for (std::size_t i = 0; i < tokens.size(); ++i) tokens[i] = static_cast<std::int32_t>(random.below(i, 8));
  const auto scores = [&](const std::vector<std::int32_t>& stream) {
    PpmBlend blend(8, 0.5);
    const std::vector<float> nll(stream.size() - 1, 2.0f);
    const auto mixed = blend.apply(0, std::span(stream), nll);
    return std::vector<float>(mixed.begin(), mixed.end());
  };
  const auto before = scores(tokens);
  for (const std::size_t at : {1u, 40u, 119u}) {
    auto changed = tokens;
    changed[at] = (changed[at] + 3) % 8;
    const auto after = scores(changed);
    for (std::size_t i = 0; i + 1 < at; ++i) ASSERT_EQ(after[i], before[i]) << at;
    // All values that the token could have taken share one distribution.
    double sum = 0;
    for (std::int32_t v = 0; v < 8; ++v) {
      changed[at] = v;
      sum += (std::exp(-static_cast<double>(scores(changed)[at - 1])) - 0.5 * std::exp(-2.0)) / 0.5;
    }
    EXPECT_NEAR(sum, 1, 1e-5) << at;
  }
}

TEST(PpmBlend, RepeatsKeepTheModelsScore) {
  std::vector<std::int32_t> tokens(49, 3);
  const auto clean = score_tokens(tokens, 4, Tail::clean, 0.5),
             published = score_tokens(tokens, 4, Tail::published, 0.5);
  ASSERT_GT(published.tokens, clean.tokens);
  EXPECT_NEAR(published.nll, clean.nll + static_cast<double>(published.tokens - clean.tokens) * std::log(8.0),
              1e-3);
}

}  // namespace
}  // namespace fairway::score
