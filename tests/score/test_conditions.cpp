// Each condition of the ledger is broken alone by what breaks just it, and by nothing less.
#include "fairway/score/ledger.h"
#include "fairway/score/seen_targets.h"

#include "fairway/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <functional>

namespace fairway::score {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

void commit(ScoreLedger& ledger, std::int64_t first, std::int64_t count, const SeenTargets* learnt = nullptr,
            float nats = 1.0f) {
  const std::vector<float> nll(static_cast<std::size_t>(count), nats);
  const std::vector<std::int32_t> bytes(static_cast<std::size_t>(count), 1);
  ScoreOrigin origin;
  if (learnt) origin.weights.push_back(learnt);
  ledger.commit(first, nll, bytes, origin);
}

const TextReference kText{{{0, 10}}};

SeenTargets knows(std::int64_t first, std::int64_t count) {
  SeenTargets k;
  k.add(first, count);
  return k;
}

struct Case {
  const char* how;
  std::vector<Condition> broken;
  std::function<void(ScoreLedger&)> enter;  ///< ten targets
};

TEST(Conditions, EachIsBrokenAlone) {
  // Where the order is not the text's, a permutation that is coded makes it fine again.
  auto coded = [](ScoreLedger& ledger) { ledger.add_side_information(3, "order"); };
  const std::vector<Case> cases = {
      {"in order", {}, [](auto& l) { commit(l, 0, 10); }},
      {"one by one",
       {},
       [](auto& l) {
         for (int t = 0; t < 10; ++t) commit(l, t, 1);
       }},
      {"by weights that know what has a score",
       {},
       [](auto& l) {
         commit(l, 0, 5);
         const auto k = knows(0, 5);
         commit(l, 5, 5, &k);
       }},
      {"by weights that know the first target without a score",
       {Condition::causal},
       [&](auto& l) {
         commit(l, 0, 5);
         const auto k = knows(5, 1);
         commit(l, 6, 4, &k);
         commit(l, 5, 1);
         coded(l);
       }},
      {"by weights that know the last target",
       {Condition::causal},
       [](auto& l) {
         const auto k = knows(9, 1);
         commit(l, 0, 9, &k);
         commit(l, 9, 1);
       }},
      {"by weights that know what is scored much later",
       {Condition::causal},
       [](auto& l) {
         const auto k = knows(3, 2);
         commit(l, 0, 1, &k);
         commit(l, 1, 9);
       }},
      {"a probability above 1",
       {Condition::normalised},
       [](auto& l) { commit(l, 0, 10, nullptr, -0.0011f); }},
      {"a probability that rounding put above 1", {}, [](auto& l) { commit(l, 0, 10, nullptr, -0.0009f); }},
      {"by weights that know the target itself",
       {Condition::score_before_update},
       [](auto& l) {
         commit(l, 0, 9);
         const auto k = knows(9, 1);
         commit(l, 9, 1, &k);
       }},
      {"by weights that know the last of the targets scored together",
       {Condition::score_before_update},
       [](auto& l) {
         const auto k = knows(9, 1);
         commit(l, 0, 10, &k);
       }},
      {"by weights that know the first of them",
       {Condition::score_before_update},
       [](auto& l) {
         commit(l, 0, 4);
         const auto k = knows(0, 5);
         commit(l, 4, 6, &k);
       }},
      {"a target twice",
       {Condition::single_pass},
       [](auto& l) {
         commit(l, 0, 10);
         commit(l, 9, 1);
       }},
      {"a target never", {Condition::single_pass}, [](auto& l) { commit(l, 0, 9); }},
      {"the first target never", {Condition::single_pass}, [](auto& l) { commit(l, 1, 9); }},
      {"another order",
       {Condition::single_pass},
       [](auto& l) {
         commit(l, 5, 5);
         commit(l, 0, 5);
       }},
      {"another order, coded",
       {},
       [&](auto& l) {
         commit(l, 5, 5);
         commit(l, 0, 5);
         coded(l);
       }},
  };
  for (const auto& c : cases) {
    ScoreLedger ledger({.targets = 10, .text = kText});
    c.enter(ledger);
    const auto verdict = ledger.verdict();
    EXPECT_EQ(verdict.broken, c.broken) << c.how << ": " << verdict.text();
    EXPECT_EQ(verdict.valid(), c.broken.empty()) << c.how;
    EXPECT_EQ(verdict.text().starts_with("valid"), c.broken.empty()) << c.how;
    for (const auto condition : c.broken)
      EXPECT_THAT(verdict.text(), HasSubstr(std::string(condition_name(condition)) + ": ")) << c.how;
  }
}

TEST(Conditions, TheBytesAreAConditionOfTheirOwn) {
  for (const auto& [text, broken] : std::vector<std::pair<TextReference, bool>>{{{{{0, 10}}}, false},
                                                                                {{{{0, 9}}}, true},
                                                                                {{{{0, 4}, {5, 6}}}, false},
                                                                                {{{{0, 4}, {5, 5}}}, true},
                                                                                {{}, true}}) {
    ScoreLedger ledger({.targets = 10, .text = text});
    commit(ledger, 0, 10);
    const auto verdict = ledger.verdict();
    EXPECT_EQ(verdict.broken, broken ? std::vector{Condition::text_bytes} : std::vector<Condition>{})
        << verdict.text();
    EXPECT_EQ(ledger.text_bytes(), text.bytes());
  }
}

TEST(Conditions, TheReasonNamesTheTargets) {
  ScoreLedger ledger({.targets = 10, .text = kText});
  commit(ledger, 0, 5);
  const auto k = knows(5, 1);
  commit(ledger, 6, 4, &k);
  EXPECT_THAT(
      ledger.verdict().text(),
      HasSubstr("target 6 was scored by weights that had learnt from target 5, which has no score yet"));
}

TEST(Conditions, AMinimumBreaksTheDistributionAndTheOnePassWhateverItsWeightsKnow) {
  const SeenTargets none;
  ScoreLedger ledger({.targets = 1, .text = kText});
  const float nll = 1;
  const std::int32_t bytes = 1;
  ledger.commit(0, {&nll, 1}, {&bytes, 1}, {{&none}, Combination::minimum});
  EXPECT_THAT(ledger.verdict().broken, ElementsAre(Condition::normalised, Condition::single_pass));
}

// The gate: text before its score, by no door but the one that tells.

TEST(Gate, TheInputsOfALessonHaveAScoreToo) {
  const std::vector<std::int32_t> tokens(11, 7);
  ScoreLedger ledger({.targets = 10, .text = kText});
  TextGate gate(std::span<const std::int32_t>(tokens), ledger);
  SeenTargets seen;
  commit(ledger, 4, 3);  // targets 4, 5, 6; the first input of a lesson from 4 on is target 3
  EXPECT_THROW(gate.committed(4, 3, seen), base::Error);
  EXPECT_NO_THROW(gate.committed(5, 2, seen)) << "its first input is target 4";
  EXPECT_THROW(gate.committed(5, 3, seen), base::Error) << "target 7";
  commit(ledger, 0, 1);
  EXPECT_NO_THROW(gate.committed(0, 1, seen)) << "before the first target stands what is given";
  EXPECT_EQ(seen.targets(), 3);
  EXPECT_EQ(gate.committed_targets(), 3);
}

TEST(Gate, TheOtherDoorTellsTheLedgerAndCounts) {
  const std::vector<std::int32_t> tokens(11, 7);
  ScoreLedger ledger({.targets = 10, .text = kText});
  TextGate gate(std::span<const std::int32_t>(tokens), ledger);
  SeenTargets seen;
  gate.unscored(2, 4, seen);
  EXPECT_EQ(gate.uncommitted_targets(), 4);
  EXPECT_EQ(gate.committed_targets(), 0);
  commit(ledger, 0, 10);
  EXPECT_THAT(ledger.verdict().broken, ElementsAre(Condition::single_pass))
      << "though these scores knew nothing of it";
  for (const auto& [first, count] : std::vector<std::pair<int, int>>{{-1, 2}, {0, 0}, {0, 11}, {10, 1}})
    EXPECT_THROW(gate.unscored(first, count, seen), base::Error) << first << " " << count;
  EXPECT_NO_THROW(gate.unscored(0, 10, seen));
}

TEST(Ledger, NumbersAreTheSumsOfWhatWasEntered) {
  ScoreLedger ledger({.targets = 6, .text = {{{0, 3}, {2, 7}, {5, 5}}}});
  const std::vector<float> nll = {0.5f, 1.5f, 2.25f, 0.125f, 3, 4};
  const std::vector<std::int32_t> bytes = {1, 2, 3, 0, 4, 5};
  ledger.commit(0, std::span(nll).first(4), std::span(bytes).first(4));
  ledger.commit(4, std::span(nll).subspan(4), std::span(bytes).subspan(4));
  ledger.add_side_information(10, "lengths");
  EXPECT_EQ(ledger.nll(), 11.375);
  EXPECT_EQ(ledger.bytes(), 15);
  EXPECT_EQ(ledger.tokens(), 6);
  EXPECT_DOUBLE_EQ(ledger.loss(), 11.375 / 6);
  EXPECT_DOUBLE_EQ(ledger.bits_per_byte(), (11.375 / std::log(2.0) + 10) / 15);
  EXPECT_EQ(ledger.verdict().text(), "valid with side information");
  const auto& d = ledger.documents();
  ASSERT_EQ(d.size(), 3u);
  const std::vector<std::tuple<int, int, int, double>> expected = {
      {0, 2, 3, 2.0}, {2, 3, 7, 5.375}, {5, 1, 5, 4.0}};
  for (std::size_t i = 0; i < 3; ++i)
    EXPECT_EQ(std::make_tuple(static_cast<int>(d[i].first_target), static_cast<int>(d[i].tokens),
                              static_cast<int>(d[i].bytes), d[i].nll),
              expected[i]);
}

}  // namespace
}  // namespace fairway::score
