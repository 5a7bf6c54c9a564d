// The byte rule `surface`: bytes of the text itself, of shards from their side-cars.
#include "fairway/data/build.h"
#include "fairway/data/side_car.h"
#include "fairway/pipeline/stages/adapt_stage.h"
#include "fairway/pipeline/stages/scoring.h"
#include "fairway/pipeline/stages/verify.h"
#include "fairway/pipeline/stages/verify_checks.h"
#include "stages.h"
#include "support/corpus.h"
#include "text/strings.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include <numeric>

namespace fairway::pipeline {
namespace {

using exec::Engine;
using ::testing::Contains;
using ::testing::HasSubstr;
using From = score::TextReference::From;
using testing::input_error, testing::small_recipe, testing::with_threads;

const text::Tokenizer& caseops() {
  static const auto tokenizer = text::Tokenizer::load(
      fairway::testing::data_path("tokenizers/fineweb_8192_bpe_lossless_caps_caseops_v1_reserved.model"));
  return tokenizer;
}

/// White space that is folded and white space that is dropped, capitals, characters of several tokens.
std::vector<data::Document> documents() {
  std::vector<data::Document> all;
  all.push_back({.text = "The NASA Launch \n\n of McDonald's  \xC2\xBD  caf\xC3\xA9s ", .where = "1"});
  all.push_back({.text = fairway::testing::demo_text().substr(0, 1200), .where = "2"});
  all.push_back({.text = "  \xEE\x80\x81x \xEE\x80\x84 IN \xE6\xBC\xA2"
                         "B\n",
                 .where = "3"});
  return all;
}

/// Shards of a text with side-cars.
struct Shards {
  explicit Shards(const text::Tokenizer& tokenizer, Engine& engine, std::optional<bool> side_car = {}) {
    std::string lines;
    for (const auto& d : documents()) lines += nlohmann::json{{"text", d.text}}.dump(-1, ' ', false) + "\n";
    base::write_file(folder / "a.jsonl", lines);
    data::BuildOptions options;
    options.out = folder / "shards";
    options.validation_only = true;
    options.shard_tokens = 200;
    options.side_car = side_car;
    data::build_shards({folder / "a.jsonl"}, tokenizer, options, engine.pool(), engine.progress());
  }
  std::string pattern() const { return (folder / "shards/*.bin").string(); }
  ScoredText read(const text::Tokenizer& tokenizer, Engine& engine) const {
    return read_scored_text({pattern()}, {}, tokenizer, tokenizer.vocab_size(), engine);
  }
  testing::Folder folder;
};

/// The first `targets` targets, one nat each, through the ledger.
score::ScoreLedger entered(const ScoredText& text, const text::Tokenizer& tokenizer, std::int64_t targets) {
  const auto tokens = std::span(text.tokens).first(static_cast<std::size_t>(targets) + 1);
  auto bytes = token_bytes({}, tokenizer, tokenizer.vocab_size(), text, tokens);
  EXPECT_EQ(bytes.rule, text::ByteRule::surface);
  score::ScoreLedger ledger({.targets = targets, .text = text.reference(tokenizer, bytes.rule, targets)});
  const std::vector<float> nll(static_cast<std::size_t>(targets), 1.0f);
  ledger.commit(0, nll, std::span(bytes.counts).subspan(1));
  return ledger;
}

TEST(Surface, IsValidWhereverATextIsCut) {
  Engine engine(with_threads(2));
  const auto text = scored_documents(documents(), caseops(), engine);
  const auto targets = std::ssize(text.tokens) - 1;
  std::int64_t before = 0;
  for (std::int64_t cut = 1; cut <= targets; ++cut) {
    const auto ledger = entered(text, caseops(), cut);
    ASSERT_TRUE(ledger.verdict().valid()) << cut << ": " << ledger.verdict().text();
    ASSERT_GE(ledger.text_bytes(), before);
    before = ledger.text_bytes();
  }
  EXPECT_EQ(before, std::ssize(text.text)) << "held against the documents themselves";
  EXPECT_LT(entered(text, caseops(), targets).bytes(), before) << "white space at the ends counts nowhere";
}

TEST(Surface, OfShardsIsTheSideCarsAndHeldAgainstWhatTheyDecodeTo) {
  Engine engine(with_threads(2));
  const Shards shards(caseops(), engine);
  const auto text = scored_documents(documents(), caseops(), engine);
  const auto read = shards.read(caseops(), engine);
  EXPECT_EQ(read.tokens, text.tokens);
  EXPECT_EQ(read.surface, text.surface);
  const auto targets = std::ssize(text.tokens) - 1;
  for (const auto cut : {targets, targets / 2, targets - 3}) {
    const auto of_text = entered(text, caseops(), cut), of_shards = entered(read, caseops(), cut);
    EXPECT_EQ(of_shards.bytes(), of_text.bytes());
    EXPECT_EQ(of_shards.text_bytes(), of_shards.bytes());
    EXPECT_THAT(of_shards.verdict().notes, Contains(HasSubstr("that the tokens decode to")));
    const bool restorable =
        of_shards.bytes() <= read.reference(caseops(), text::ByteRule::surface, cut).decoded_bytes;
    EXPECT_EQ(of_shards.verdict().valid(), restorable) << of_shards.verdict().text();
    EXPECT_TRUE(of_text.verdict().notes.empty() ||
                of_text.verdict().notes[0].find("side-car") == std::string::npos);
  }
  const auto reference = read.reference(caseops(), text::ByteRule::surface, targets);
  const auto decoded = read.reference(caseops(), text::ByteRule::challenge, targets);
  EXPECT_EQ(decoded.from, From::decoded) << "other rules are held against what the tokens decode to";
  EXPECT_EQ(reference.decoded_bytes, decoded.bytes());
  EXPECT_GT(reference.bytes(), decoded.bytes()) << "a run of white space decodes to one";
}

TEST(Surface, IsTheRuleWhereSomethingTellsIt) {
  Engine engine(with_threads(1));
  ScoreConfig automatic, wanted;
  wanted.rule = text::ByteRule::surface;
  const auto rule = [](const ScoreConfig& c, const text::Tokenizer& t, const ScoredText& text) {
    return byte_rule(c, t, text);
  };
  const auto text = scored_documents(documents(), caseops(), engine);
  EXPECT_EQ(rule(automatic, caseops(), text), text::ByteRule::surface);
  const auto without = Shards(caseops(), engine, false).read(caseops(), engine);
  EXPECT_EQ(rule(automatic, caseops(), without), text::ByteRule::challenge);
  EXPECT_THAT(input_error([&] { rule(wanted, caseops(), without); }), HasSubstr("no byte counts"));
  const auto& sp1024 = fairway::testing::sp1024();
  const auto plain = scored_documents(documents(), sp1024, engine);
  EXPECT_EQ(rule(automatic, sp1024, plain), text::ByteRule::challenge);
  EXPECT_THAT(input_error([&] { rule(wanted, sp1024, plain); }), HasSubstr("case operators"));
  const auto asked = Shards(sp1024, engine, true).read(sp1024, engine);
  EXPECT_EQ(rule(automatic, sp1024, asked), text::ByteRule::challenge);
  EXPECT_EQ(rule(wanted, sp1024, asked), text::ByteRule::surface);
}

TEST(Surface, SideCarsOfSomeShardsOnlyAreAnError) {
  Engine engine(with_threads(1));
  const Shards shards(caseops(), engine);
  std::filesystem::remove(shards.folder / "shards/fineweb_val_bytes_000001.bin");
  EXPECT_THAT(input_error([&] { shards.read(caseops(), engine); }), HasSubstr("give them to all or to none"));
}

TEST(Surface, ARunRefusesItBeforeItTrains) {
  Engine engine(with_threads(1));
  const auto recipe = small_recipe({"score.rule=surface"});
  EXPECT_THAT(input_error([&] { prepare_corpus(recipe, engine); }), HasSubstr("score.rule = \"surface\""));
}

/// Scores of the text as it is, of its shards, and of both after adaptation agree.
TEST(Surface, EveryWayToScoreCountsAlike) {
  Engine engine(with_threads(2));
  const auto recipe = small_recipe({"model.vocab_size=8192", "score.stride=0"});
  const auto model = testing::fresh_model(recipe, caseops(), engine);
  const Shards shards(caseops(), engine);
  const auto text = scored_documents(documents(), caseops(), engine);
  const auto read = shards.read(caseops(), engine);
  for (const int limit : {0, 150}) {
    auto options = recipe;
    options.score.tokens = limit;
    std::vector<score::ScoreResult> results;
    for (const auto* t : {&text, &read}) {
      results.push_back(score_text(recipe.model, *model.weights, caseops(), *t, options.score, 0, engine));
      results.push_back(adapt_and_score(options, *model.weights, caseops(), *t, engine).run.score);
    }
    EXPECT_TRUE(results[0].verdict.valid() && results[1].verdict.valid());
    EXPECT_FALSE(results[2].verdict.valid() || results[3].verdict.valid())
        << "shards say nothing of white space that was folded";
    for (const auto& r : results) {
      EXPECT_EQ(r.rule, "surface");
      EXPECT_EQ(r.bytes, results[0].bytes);
      EXPECT_EQ(r.bits_per_byte, results[0].bits_per_byte);
    }
  }
}

TEST(Surface, AChangedTextIsCountedAsItWasRead) {
  Engine engine(with_threads(1));
  auto text = scored_documents(documents(), caseops(), engine);
  const auto before = token_bytes({}, caseops(), 8192, text, text.tokens).counts;
  for (auto& token : text.tokens) token = static_cast<std::uint16_t>((token + 17) % 8192);
  EXPECT_EQ(token_bytes({}, caseops(), 8192, text, text.tokens).counts, before) << "as verify's flips do it";
}

}  // namespace
}  // namespace fairway::pipeline
