#include "fairway/score/ledger.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>
#include <numbers>
#include <vector>

#include "fairway/base/error.h"

namespace fairway::score {
namespace {

const TextReference long_text{{{0, 1'000'000'000}}};  // more bytes than any test counts

void commit_one(ScoreLedger& ledger, std::int64_t target, float nll = 1.0f, std::int32_t bytes = 2) {
  ledger.commit(target, std::span(&nll, 1), std::span(&bytes, 1));
}

TEST(ScoreLedger, UniformModelOnThePublishedSplit) {
  // docs/spec/evaluation.md section 1: uniform over 1024 pieces gives 4.1052 bits per byte over U targets and
  // 151,080,363 bytes. The same ratio on a millionth of it: tokens / bytes = 0.41052080.
  ScoreLedger ledger({.targets = 62'021, .text = long_text});
  std::vector<float> nll(62'021, static_cast<float>(std::log(1024.0)));
  std::vector<std::int32_t> bytes(62'021, 2);
  for (std::size_t i = 0; i < 151'080 - 2 * 62'021; ++i) ++bytes[i];
  ledger.commit(0, nll, bytes);
  EXPECT_EQ(ledger.bytes(), 151'080);
  EXPECT_NEAR(ledger.bits_per_byte(), 4.1052, 1e-4);
  EXPECT_NEAR(ledger.bits_per_byte(), 0.592256 * ledger.loss(), 1e-4);
  EXPECT_EQ(ledger.verdict().text(), "valid");
}

TEST(ScoreLedger, SumsInDoubleAndInCommitOrder) {
  ScoreLedger ledger({.targets = 3'000'000, .text = long_text});
  const std::vector<float> nll(1000, 0.1f);
  const std::vector<std::int32_t> bytes(1000, 3);
  for (int i = 0; i < 3000; ++i) ledger.commit(i * 1000, nll, bytes);
  EXPECT_NEAR(ledger.nll(), 3e6 * static_cast<double>(0.1f), 1e-4);  // a float sum is off by thousands
  EXPECT_EQ(ledger.bytes(), 9'000'000);
  EXPECT_EQ(ledger.order(), (std::vector<CommitRun>{{0, 3'000'000}}));
  EXPECT_EQ(ledger.committed_prefix(), 3'000'000);
}

TEST(ScoreLedger, ATargetScoredTwiceIsNotACodeLength) {
  ScoreLedger ledger({.targets = 20, .text = long_text});
  for (int t = 0; t < 20; ++t) commit_one(ledger, t);
  EXPECT_TRUE(ledger.verdict().valid());
  commit_one(ledger, 17);
  EXPECT_EQ(ledger.verdict().kind, VerdictKind::not_a_code_length);
  EXPECT_EQ(ledger.verdict().text(),
            "not a code length: C4 single left-to-right pass: target 17 scored twice");
}

TEST(ScoreLedger, PublishedTailIsRecordedAndBoundedByItsPlace) {
  ScoreLedger ledger({.targets = 20, .repeats_allowed_from = 16, .text = long_text});
  for (int t = 0; t < 20; ++t) commit_one(ledger, t);
  commit_one(ledger, 16);
  const auto verdict = ledger.verdict();
  EXPECT_EQ(verdict.kind, VerdictKind::valid);
  ASSERT_EQ(verdict.notes.size(), 1u);
  EXPECT_NE(verdict.notes[0].find("the last 4 targets were scored 1 more times"), std::string::npos)
      << verdict.notes[0];
  EXPECT_EQ(ledger.tokens(), 21);
  commit_one(ledger, 15);
  EXPECT_EQ(ledger.verdict().kind, VerdictKind::not_a_code_length);
}

TEST(ScoreLedger, AMissingTargetIsNotACodeLength) {
  ScoreLedger ledger({.targets = 5, .text = long_text});
  for (int t : {0, 1, 3, 4}) commit_one(ledger, t);
  EXPECT_EQ(ledger.committed_prefix(), 2);
  EXPECT_TRUE(ledger.committed(3));
  EXPECT_FALSE(ledger.committed(2));
  EXPECT_EQ(ledger.verdict().reason, "C4 single left-to-right pass: target 2 was never scored");
}

TEST(ScoreLedger, AnotherOrderMustBeCoded) {
  ScoreLedger ledger({.targets = 4, .text = long_text});
  for (int t : {2, 3, 0, 1}) commit_one(ledger, t, static_cast<float>(std::numbers::ln2));
  EXPECT_EQ(ledger.order(), (std::vector<CommitRun>{{2, 2}, {0, 2}}));
  EXPECT_NE(ledger.verdict().reason.find("target 0 committed after target 3"), std::string::npos);
  EXPECT_NEAR(ledger.bits_per_byte(), 4.0 / 8.0, 1e-7);
  ledger.add_side_information(2.0, "order of two documents");
  EXPECT_EQ(ledger.verdict().text(), "valid with side information");
  EXPECT_NEAR(ledger.bits_per_byte(), 6.0 / 8.0, 1e-7);
}

TEST(ScoreLedger, EveryBrokenConditionIsNamedWithItsFirstReason) {
  ScoreLedger ledger({.targets = 1, .text = long_text});
  ledger.declare_broken(Condition::score_before_update, "20 epochs on the text before it was scored");
  ledger.declare_broken(Condition::score_before_update, "another");
  ledger.declare_broken(Condition::causal, "second");
  commit_one(ledger, 0);
  EXPECT_EQ(ledger.verdict().text(),
            "not a code length: C1 strict causal dependence: second; C3 score before update: 20 epochs on "
            "the text before it was scored");
  EXPECT_EQ(ledger.verdict().broken, (std::vector{Condition::causal, Condition::score_before_update}));
}

TEST(ScoreLedger, AProbabilityAboveOneIsNotADistribution) {
  ScoreLedger ledger({.targets = 2, .text = long_text});
  commit_one(ledger, 0, -1e-7f);  // rounding
  EXPECT_EQ(ledger.verdict().reason.find("C2"), std::string::npos);
  commit_one(ledger, 1, -0.5f);
  EXPECT_NE(ledger.verdict().reason.find("C2 full normalised distribution: target 1"), std::string::npos);
}

TEST(ScoreLedger, NotANumberNamesTheTargetAndEntersNothing) {
  ScoreLedger ledger({.targets = 10, .text = long_text});
  const std::vector<std::int32_t> bytes(4, 1);
  for (float bad : {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity()}) {
    const std::vector<float> nll{1.0f, 2.0f, bad, 1.0f};
    try {
      ledger.commit(3, nll, bytes);
      FAIL() << "accepted";
    } catch (const base::Error& e) {
      EXPECT_EQ(e.kind(), base::ErrorKind::failure);
      EXPECT_NE(std::string(e.what()).find("target 5"), std::string::npos) << e.what();
    }
    EXPECT_EQ(ledger.tokens(), 0);
    EXPECT_FALSE(ledger.committed(3));
  }
  EXPECT_THROW(ledger.loss(), base::Error);
}

TEST(ScoreLedger, DocumentsAddUp) {
  ScoreLedger ledger({.targets = 7, .text = {{{0, 100}, {3, 0}, {3, 100}, {5, 100}}}});
  const std::vector<float> nll{1, 2, 3, 4, 5, 6, 7};
  const std::vector<std::int32_t> bytes{1, 1, 2, 2, 3, 3, 4};
  ledger.commit(0, std::span(nll).first(4), std::span(bytes).first(4));
  ledger.commit(4, std::span(nll).subspan(4), std::span(bytes).subspan(4));
  const auto& d = ledger.documents();
  ASSERT_EQ(d.size(), 4u);
  EXPECT_EQ(d[0].tokens, 3);
  EXPECT_EQ(d[1].tokens, 0);
  EXPECT_EQ(d[2].tokens, 2);
  EXPECT_EQ(d[3].tokens, 2);
  EXPECT_EQ(d[0].nll, 6.0);
  EXPECT_EQ(d[2].nll, 9.0);
  EXPECT_EQ(d[3].nll, 13.0);
  EXPECT_EQ(d[2].bytes, 5);
  EXPECT_EQ(d[3].bytes, 7);
}

// A score is never better than the text allows.

ScoreLedger counted(TextReference text, const std::vector<std::int32_t>& bytes) {
  ScoreLedger ledger({.targets = std::ssize(bytes), .text = std::move(text)});
  for (std::int64_t t = 0; t < std::ssize(bytes); ++t)
    commit_one(ledger, t, 1.0f, bytes[static_cast<std::size_t>(t)]);
  return ledger;
}

TEST(TextBytes, AsManyAsTheTextHasAreValidAndOneMoreIsNot) {
  EXPECT_EQ(counted({{{0, 6}}}, {1, 2, 3}).verdict().text(), "valid");
  EXPECT_EQ(counted({{{0, 7}}}, {1, 2, 3}).verdict().text(), "valid");
  const auto ledger = counted({{{0, 5}}}, {1, 2, 3});
  EXPECT_EQ(ledger.verdict().text(), "not a code length: bytes of the text: 6 bytes counted, the text has 5");
  EXPECT_EQ(ledger.verdict().broken, std::vector{Condition::text_bytes});
  EXPECT_EQ(ledger.text_bytes(), 5);
}

TEST(TextBytes, WithoutATextNoScoreIsValid) {
  const auto verdict = counted({}, {1, 2, 3}).verdict();
  EXPECT_EQ(verdict.broken, std::vector{Condition::text_bytes});
  EXPECT_TRUE(
      verdict.reason.ends_with("the text is not known, so the counted bytes cannot be held against it"))
      << verdict.reason;
}

TEST(TextBytes, DecodedTokensAreNamedAsWhatTheyAre) {
  const auto good = counted({{{0, 6}}, TextReference::From::decoded}, {1, 2, 3}).verdict();
  EXPECT_TRUE(good.valid());
  EXPECT_EQ(good.notes,
            std::vector<std::string>{
                "only tokens were given: the counted bytes are held against the text they decode to"});
  EXPECT_TRUE(counted({{{0, 5}}, TextReference::From::decoded}, {1, 2, 3})
                  .verdict()
                  .reason.ends_with("6 bytes counted, the tokens decode to 5"));
}

/// A side-car that says more than can be restored, by folded white space or by a lie.
TEST(TextBytes, ASideCarIsHeldAgainstWhatTheTokensDecodeTo) {
  const auto good = counted({{{0, 6}}, TextReference::From::side_car, 6}, {1, 2, 3}).verdict();
  EXPECT_TRUE(good.valid());
  ASSERT_EQ(good.notes.size(), 1u);
  EXPECT_NE(good.notes[0].find("its 6 bytes are held against the 6 that the tokens decode to"),
            std::string::npos);
  const auto bad = counted({{{0, 6}}, TextReference::From::side_car, 5}, {1, 2, 3}).verdict();
  EXPECT_FALSE(bad.valid());
  EXPECT_NE(bad.reason.find("6 bytes counted by the side-car, the tokens decode to 5"), std::string::npos)
      << bad.reason;
}

TEST(TextBytes, SingleDocumentsThatCountMoreAreSaidWithTheirNumber) {
  const auto verdict = counted({{{0, 4}, {1, 1}, {2, 2}, {3, 9}}}, {4, 2, 3, 4}).verdict();
  EXPECT_TRUE(verdict.valid());
  EXPECT_EQ(verdict.notes,
            std::vector<std::string>{"2 of 4 documents count more bytes than they have, the first one is "
                                     "document 2: 2 counted, 1 in its text"});
}

/// Targets 0 to 3 of one byte and 1 nat each; then the last one again for `nll`.
Verdict with_a_repeat(float nll, std::int64_t text_bytes) {
  ScoreLedger ledger({.targets = 4, .repeats_allowed_from = 3, .text = {{{0, text_bytes}}}});
  for (int t = 0; t < 4; ++t) commit_one(ledger, t, 1.0f, 1);
  commit_one(ledger, 3, nll, 1);
  return ledger.verdict();
}

TEST(TextBytes, RepeatsMayMakeAScoreWorseButNotBetter) {
  EXPECT_TRUE(
      with_a_repeat(1.5f, 4).valid());  // the five counted bytes are more than four, and their bits too
  EXPECT_TRUE(with_a_repeat(1.0f, 4).valid());
  const auto flattered = with_a_repeat(0.5f, 4);
  EXPECT_EQ(flattered.broken, std::vector{Condition::single_pass});
  EXPECT_TRUE(flattered.reason.ends_with(
      "1 targets scored again lower the score to 1.298426 bits per byte; each counted once it is 1.442695"))
      << flattered.reason;
  EXPECT_TRUE(with_a_repeat(0.5f, 5).valid());  // what normalisation lost makes up for it
}

TEST(TextBytes, SideInformationCountsOnBothSides) {
  ScoreLedger ledger({.targets = 2, .repeats_allowed_from = 1, .text = {{{0, 2}}}});
  ledger.add_side_information(8, "a length");
  for (const int t : {0, 1, 1}) commit_one(ledger, t, 1.0f, 1);
  // 10.9 bits over 2 bytes; with the repeat 12.3 over 3.
  EXPECT_EQ(ledger.verdict().broken, std::vector{Condition::single_pass});
}

TEST(TextBytes, DocumentsCountEachTargetOnce) {
  ScoreLedger ledger({.targets = 3, .repeats_allowed_from = 2, .text = {{{0, 10}, {2, 10}}}});
  for (const int t : {0, 1, 2, 2, 2}) commit_one(ledger, t);
  EXPECT_EQ(ledger.tokens(), 5);
  ASSERT_EQ(ledger.documents().size(), 2u);
  EXPECT_EQ(ledger.documents()[1].tokens, 1);
  EXPECT_EQ(ledger.documents()[1].bytes, 2);
  EXPECT_EQ(ledger.documents()[1].text_bytes, 10);
}

}  // namespace
}  // namespace fairway::score
