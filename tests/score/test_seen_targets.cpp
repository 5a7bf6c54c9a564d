// Verdicts from what weights had learnt when they scored, and the two doors to text.
#include "fairway/score/seen_targets.h"

#include <gtest/gtest.h>

#include <cmath>
#include <numeric>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "fairway/score/ledger.h"

namespace fairway::score {
namespace {

using Conditions = std::vector<Condition>;

const TextReference long_text{{{0, 1'000'000}}};

void commit(ScoreLedger& ledger, std::int64_t first, std::int64_t count, const ScoreOrigin& origin = {}) {
  const std::vector<float> nll(static_cast<std::size_t>(count), 1.0f);
  const std::vector<std::int32_t> bytes(static_cast<std::size_t>(count), 1);
  ledger.commit(first, nll, bytes, origin);
}

std::vector<std::int32_t> counting(std::int32_t n) {
  std::vector<std::int32_t> tokens(static_cast<std::size_t>(n));
  std::iota(tokens.begin(), tokens.end(), 100);
  return tokens;
}

TEST(SeenTargets, RunsMergeAsASetWould) {
  const base::Random random(7, "runs");
  for (int round = 0; round < 50; ++round) {
    SeenTargets seen;
    std::vector<bool> set(64);
    for (int i = 0; i < 8; ++i) {
      const auto at = static_cast<std::uint64_t>(round * 16 + i * 2);
      const auto first = static_cast<std::int64_t>(random.below(at, 60));
      const auto count = static_cast<std::int64_t>(random.below(at + 1, 5));
      seen.add(first, count);
      for (auto t = first; t < std::min<std::int64_t>(first + count, 64); ++t)
        set[static_cast<std::size_t>(t)] = true;
    }
    std::vector<bool> runs(64);
    std::int64_t before = -2;
    for (const auto& r : seen.runs()) {
      EXPECT_GT(r.first, before) << "runs touch or are out of order";
      before = r.first + r.count;
      for (auto t = r.first; t < std::min<std::int64_t>(before, 64); ++t)
        runs[static_cast<std::size_t>(t)] = true;
    }
    EXPECT_EQ(runs, set);
  }
}

TEST(TextGate, GivesOnlyWhatTheLedgerHas) {
  const auto tokens = counting(11);
  ScoreLedger ledger({.targets = 10, .text = long_text});
  TextGate gate(std::span<const std::int32_t>(tokens), ledger);
  SeenTargets seen;
  EXPECT_THROW(gate.committed(0, 4, seen), base::Error);
  commit(ledger, 0, 4);
  const auto lesson = gate.committed(0, 4, seen);
  std::vector<std::int32_t> inputs(4), targets(4);
  lesson.inputs(inputs);
  lesson.targets(targets);
  EXPECT_EQ(inputs, (std::vector<std::int32_t>{100, 101, 102, 103}));
  EXPECT_EQ(targets, (std::vector<std::int32_t>{101, 102, 103, 104}));
  EXPECT_THROW(gate.committed(1, 4, seen), base::Error);  // target 4 is not
  EXPECT_EQ(gate.committed_targets(), 4);
  EXPECT_EQ(gate.uncommitted_targets(), 0);
  EXPECT_EQ(seen.targets(), 4);
}

TEST(TextGate, ScoreFirstIsValid) {
  const auto tokens = counting(11);
  ScoreLedger ledger({.targets = 10, .text = long_text});
  TextGate gate(std::span<const std::int32_t>(tokens), ledger);
  SeenTargets seen;
  for (int t = 0; t < 10; t += 2) {
    commit(ledger, t, 2, {{&seen}, Combination::single});
    gate.committed(t, 2, seen);
  }
  EXPECT_EQ(ledger.verdict().text(), "valid");
}

TEST(TextGate, LearningFirstBreaksThreeConditions) {
  const auto tokens = counting(11);
  ScoreLedger ledger({.targets = 10, .text = long_text});
  TextGate gate(std::span<const std::int32_t>(tokens), ledger);
  SeenTargets seen;
  for (int t = 0; t < 10; t += 2) gate.unscored(t, 2, seen);
  for (int t = 0; t < 10; t += 2) commit(ledger, t, 2, {{&seen}, Combination::single});
  const auto verdict = ledger.verdict();
  EXPECT_EQ(verdict.broken,
            (Conditions{Condition::causal, Condition::score_before_update, Condition::single_pass}));
  EXPECT_NE(verdict.reason.find("target 0 was learnt from before"), std::string::npos) << verdict.reason;
  EXPECT_NE(verdict.reason.find("learnt from target 2, which"), std::string::npos) << verdict.reason;
  EXPECT_EQ(gate.uncommitted_targets(), 10);
}

TEST(ScoreLedger, WeightsFromTheFutureBreakCausalityOnly) {
  ScoreLedger ledger({.targets = 10, .text = long_text});
  SeenTargets later;
  later.add(6, 2);
  commit(ledger, 0, 5, {{&later}, Combination::single});
  commit(ledger, 5, 5);
  EXPECT_EQ(ledger.verdict().broken, Conditions{Condition::causal});
}

TEST(ScoreLedger, WeightsThatLearntFromCommittedTextAreFine) {
  ScoreLedger ledger({.targets = 10, .text = long_text});
  commit(ledger, 0, 5);
  SeenTargets earlier;
  earlier.add(0, 5);
  commit(ledger, 5, 5, {{&earlier}, Combination::single});
  EXPECT_EQ(ledger.verdict().text(), "valid");
}

TEST(ScoreLedger, AMinimumIsNoDistributionAndAMixtureIsOne) {
  const SeenTargets none;
  ScoreLedger minimum({.targets = 2, .text = long_text}), mixture({.targets = 2, .text = long_text});
  commit(minimum, 0, 2, {{&none, &none}, Combination::minimum});
  commit(mixture, 0, 2, {{&none, &none}, Combination::mixture});
  EXPECT_EQ(minimum.verdict().broken, (Conditions{Condition::normalised, Condition::single_pass}));
  EXPECT_EQ(mixture.verdict().text(), "valid");
}

TEST(Combine, TheMixtureIsADistributionTheMinimumIsNot) {
  // Two distributions over three outcomes.
  const std::vector<std::vector<double>> p = {{0.7, 0.2, 0.1}, {0.1, 0.3, 0.6}};
  std::vector<std::vector<float>> nll(2);
  for (int k = 0; k < 2; ++k)
    for (double x : p[static_cast<std::size_t>(k)])
      nll[static_cast<std::size_t>(k)].push_back(static_cast<float>(-std::log(x)));
  std::vector<float> out(3);
  auto mass = [&] {
    double sum = 0;
    for (float x : out) sum += std::exp(-static_cast<double>(x));
    return sum;
  };
  const std::vector<double> weights{0.25, 0.75};
  combine(Combination::mixture, nll, weights, out);
  EXPECT_NEAR(mass(), 1.0, 1e-6);
  EXPECT_NEAR(std::exp(-out[0]), 0.25 * 0.7 + 0.75 * 0.1, 1e-6);
  combine(Combination::minimum, nll, {}, out);
  EXPECT_NEAR(mass(), 0.7 + 0.3 + 0.6, 1e-6);
  EXPECT_THROW(combine(Combination::single, nll, {}, out), base::Error);
}

TEST(Combine, SurvivesProbabilitiesThatAreZeroInFloat) {
  const std::vector<std::vector<float>> nll = {{200.0f}, {900.0f}};
  std::vector<float> out(1);
  combine(Combination::mixture, nll, std::vector<double>{0.5, 0.5}, out);
  EXPECT_NEAR(out[0], 200.0 + std::log(2.0), 1e-4);
}

}  // namespace
}  // namespace fairway::score
