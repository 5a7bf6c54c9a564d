// The byte rule `surface` (docs/spec/caseops_tokenizer.md sections 4 and 6.1).
#include <gmock/gmock.h>

#include <numeric>

#include "fairway/text/caseops.h"
#include "strings.h"
#include "support.h"
#include "support/sentencepiece_model.h"

namespace fairway::text {
namespace {

using fairway::testing::SentencePieceModel;
using ::testing::ElementsAre;
using ::testing::ElementsAreArray;
using Counts = std::vector<std::uint16_t>;

const std::string kSpace = "\xE2\x96\x81";

Tokenizer published(const char* name) {
  return Tokenizer::load(testing::data_path(std::string("tokenizers/") + name + ".model"));
}
const Tokenizer& caseops8192() {
  static const auto tokenizer = published("fineweb_8192_bpe_lossless_caps_caseops_v1_reserved");
  return tokenizer;
}

std::vector<std::uint16_t> ids_of(const Tokenizer& tokenizer, std::string_view text) {
  std::vector<std::uint16_t> ids;
  tokenizer.encode(text, ids);
  return ids;
}
Counts counts_of(const Tokenizer& tokenizer, std::string_view text) {
  return tokenizer.surface_bytes(text, ids_of(tokenizer, text));
}
std::uint64_t sum(const Counts& counts) {
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

TEST(Surface, CountsTheWorkedExamples) {
  const struct {
    const char* text;
    Counts counts;
  } examples[] = {{"The NASA Launch", {0, 3, 1, 0, 3, 1, 1, 0, 2, 4}},
                  {"iPhone OpenAI", {1, 0, 5, 1, 0, 4, 0, 1, 0, 1}},
                  {"The quick brown FOX.", {0, 3, 6, 6, 1, 0, 3, 1}},
                  {"I am", {0, 1, 3}},
                  {"McDonald's eBay", {0, 2, 0, 6, 1, 1, 2, 0, 3}},
                  {"USAs", {0, 1, 0, 1, 0, 2}},
                  {"ABC123DEF", {0, 2, 1, 1, 1, 1, 0, 3}},
                  {"HTML5 aB", {0, 4, 1, 2, 0, 1}},
                  {"CAF\xC3\x89", {0, 1, 2, 0, 2}},
                  {"x\xEE\x80\x81y", {1, 0, 3, 1}},
                  {"\xEE\x80\x84", {0, 3}}};
  for (const auto& e : examples)
    EXPECT_THAT(counts_of(caseops8192(), e.text), ElementsAreArray(e.counts)) << e.text;
}

TEST(Surface, WhiteSpaceCountsWithTheRunThatItStandsInAndAtTheEndsNowhere) {
  EXPECT_EQ(sum(counts_of(caseops8192(), " hello  world \n\nNext")), 19u);
  EXPECT_EQ(sum(counts_of(caseops8192(), "tail  ")), 4u);
  const std::string run = "Alpha \n\nBeta";
  const auto ids = ids_of(caseops8192(), run);
  const auto at = std::ranges::find(ids, caseops8192().piece_id(kSpace)) - ids.begin();
  ASSERT_LT(at, std::ssize(ids));
  EXPECT_EQ(counts_of(caseops8192(), run)[static_cast<std::size_t>(at)], 3u);
}

TEST(Surface, WhatNormalisationExpandsCountsWithItsLastPiece) {
  // ½ becomes 1, the fraction slash (three byte pieces), 2.
  EXPECT_THAT(counts_of(caseops8192(), "x\xC2\xBDy"), ElementsAre(1, 0, 0, 0, 0, 2, 1));
}

TEST(Surface, CountsStopAtSixteenBits) {
  const auto counts = counts_of(caseops8192(), "a" + std::string(70'000, ' ') + "Bc");
  EXPECT_EQ(*std::ranges::max_element(counts), 65'535u);
}

TEST(Surface, UnknownPiecesCountNothing) {
  SentencePieceModel model;
  for (const char* piece : {"a", "b"}) model.pieces.emplace_back(piece, PieceKind::normal);
  model.pieces.emplace_back(kSpace, PieceKind::normal);
  model.dummy_prefix = false;
  EXPECT_EQ(sum(counts_of(model.load(), "ab xyz ba")), 6u);
}

TEST(Surface, OfALosslessTokenizerIsExact) {
  static const auto ours = train_tokenizer({std::string_view(testing::demo_text()).substr(0, 60'000)},
                                           {.vocab_size = 600, .case_operators = true});
  const auto table = make_byte_table(ours, ByteRule::exact);
  auto texts = testing::nasty_strings();
  texts.emplace_back(hostile_text());
  texts.emplace_back("\xEE\x80\x84\xEE\x80\x81 NASA \xEE\x80\x84\xEE\x80\x84\xE2\x96\x81");
  for (const auto& text : texts) {
    if (text.empty()) continue;
    auto ids = ids_of(ours, text);
    const auto counts = ours.surface_bytes(text, ids);
    ids.insert(ids.begin(), static_cast<std::uint16_t>(ours.bos_id()));
    auto exact = table.counts(ids);
    exact.erase(exact.begin());
    ASSERT_THAT(counts, ElementsAreArray(exact)) << text;
    ASSERT_EQ(sum(counts), text.size());
  }
}

/// The sum is at most the text, and the text cut behind any token has at least the tokens' bytes.
void check(const Tokenizer& tokenizer, const std::string& text) {
  if (text.empty()) return;
  const auto ids = ids_of(tokenizer, text);
  const auto counts = tokenizer.surface_bytes(text, ids);
  ASSERT_EQ(counts.size(), ids.size());
  ASSERT_LE(sum(counts), text.size());
  std::uint64_t counted = 0;
  const std::size_t step = 1 + ids.size() / 20;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    counted += counts[i];
    if (i % step == 0) {
      ASSERT_GE(tokenizer.source_bytes(text, std::span(ids).first(i + 1)), counted) << i;
    }
  }
}

TEST(Surface, NeverCountsMoreThanTheTextWhereverItIsCut) {
  for (const char* name : {"fineweb_8192_bpe_lossless_caps_caseops_v1_reserved",
                           "fineweb_10240_bpe_lossless_caps_caseops_v1_identity", "fineweb_1024_bpe"}) {
    SCOPED_TRACE(name);
    const auto tokenizer = published(name);
    for (const auto& text : testing::nasty_strings()) ASSERT_NO_FATAL_FAILURE(check(tokenizer, text));
    for (std::uint64_t seed = 0; seed < 300; ++seed)
      ASSERT_NO_FATAL_FAILURE(check(tokenizer, testing::random_text(seed)));
    ASSERT_NO_FATAL_FAILURE(check(tokenizer, testing::demo_text().substr(0, 20'000)));
  }
}

TEST(Surface, OrdinaryEnglishCountsInFull) {
  const std::string text = "The first line. It was NASA's own, and McDonald's (1969) too \xE2\x80\x94 or so?";
  for (const char* name : {"fineweb_8192_bpe_lossless_caps_caseops_v1_reserved", "fineweb_1024_bpe"})
    EXPECT_EQ(sum(counts_of(published(name), text)), text.size()) << name;
}

TEST(Surface, TokensOfAnotherTextAreAFailure) {
  const auto ids = ids_of(caseops8192(), "some words");
  EXPECT_THROW(caseops8192().surface_bytes("other words", ids), base::Error);
}

}  // namespace
}  // namespace fairway::text
