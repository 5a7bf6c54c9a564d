// Whatever the tokenizer and the text: a score is valid only where the bytes counted are at most the text's,
// and every command says the same of it.
#include "fairway/base/random.h"
#include "fairway/data/build.h"
#include "fairway/pipeline/stages/adapt_stage.h"
#include "fairway/pipeline/stages/scoring.h"
#include "fairway/text/train.h"
#include "stages.h"
#include "support/corpus.h"
#include "support/sentencepiece_model.h"
#include "text/strings.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace fairway::pipeline {
namespace {

using exec::Engine;
using fairway::testing::SentencePieceModel;
using ::testing::HasSubstr;
using testing::small_recipe;
using testing::with_threads;
using Json = nlohmann::json;

const std::string kSpace = "\xE2\x96\x81";

std::string trial(const std::string& name) {
  return (std::filesystem::path(FAIRWAY_SOURCE_DIR) / "tests/trials" / name).string();
}

/// Letters, the space, and pieces with spaces in front, inside and behind, drawn by `seed`.
SentencePieceModel random_model(std::uint64_t seed) {
  const base::Random random(seed, "test model");
  std::uint64_t draw = 0;
  const auto flip = [&] { return random.below(draw++, 2) == 1; };
  SentencePieceModel model;
  model.bpe = flip(), model.byte_fallback = flip(), model.dummy_prefix = flip();
  model.remove_extra_spaces = flip(), model.whitespace_as_suffix = flip();
  model.unknown_surface = std::string(random.below(draw++, 12), '?');
  if (random.below(draw++, 4) != 0) model.pieces.emplace_back(kSpace, text::PieceKind::normal);
  const auto kind = [&] {
    const auto n = random.below(draw++, 12);
    return n == 0   ? text::PieceKind::unused
           : n == 1 ? text::PieceKind::user_defined
                    : text::PieceKind::normal;
  };
  for (const char c : std::string("abeghinort.\n")) model.pieces.emplace_back(std::string(1, c), kind());
  const std::vector<std::string> parts = {kSpace, kSpace + kSpace, "th",   "e", "the",
                                          "in",   "ing",           "tion", "a"};
  for (int i = 0; i < 24; ++i) {
    std::string piece;
    for (auto n = 2 + random.below(draw++, 3); n > 0; --n) piece += parts[random.below(draw++, parts.size())];
    if (std::ranges::none_of(model.pieces, [&](const auto& p) { return p.first == piece; }))
      model.pieces.emplace_back(piece, kind());
  }
  return model;
}

/// Changes nothing, and has spaces at its pieces' ends: three bytes each in the published table, one in
/// truth.
text::Tokenizer spaces_behind() {
  SentencePieceModel model;
  model.byte_fallback = true, model.dummy_prefix = model.remove_extra_spaces = false;
  model.pieces.emplace_back(kSpace, text::PieceKind::normal);
  for (char c = 'a'; c <= 'z'; ++c) {
    model.pieces.emplace_back(std::string(1, c), text::PieceKind::normal);
    model.pieces.emplace_back(std::string(1, c) + kSpace, text::PieceKind::normal);
  }
  return model.load();
}

std::vector<data::Document> documents(std::uint64_t seed) {
  std::vector<data::Document> all;
  const auto& nasty = fairway::testing::nasty_strings();
  all.push_back({.text = "the  thing that is in the station ", .where = "1"});
  all.push_back({.text = fairway::testing::random_text(seed), .where = "2"});
  all.push_back({.text = nasty[seed % nasty.size()], .where = "3"});
  if (all.back().text.size() > 1000)
    all.back().text.resize(999);  // a multiple of three: not inside a character
  all.push_back({.text = " and then nothing", .where = "4"});
  return all;
}

/// The first `targets` targets, one nat each, through the ledger.
score::ScoreLedger entered(const ScoredText& text, const text::Tokenizer& tokenizer, text::ByteRule rule,
                           std::int64_t targets) {
  const auto table = text::make_byte_table(tokenizer, rule);
  auto bytes = table.counts(std::span(text.tokens).first(static_cast<std::size_t>(targets) + 1));
  bytes.erase(bytes.begin());
  score::ScoreLedger ledger({.targets = targets, .text = text.reference(tokenizer, rule, targets)});
  const std::vector<float> nll(bytes.size(), 1.0f);
  ledger.commit(0, nll, bytes);
  return ledger;
}

/// Bytes of the documents that the first `targets` targets reach, each whole.
std::int64_t whole_documents(const std::vector<data::Document>& all, const ScoredText& text,
                             std::int64_t targets) {
  std::int64_t bytes = 0;
  for (std::size_t i = 0; i < all.size(); ++i)
    if (text.documents[i].first_target < targets) bytes += std::ssize(all[i].text);
  return bytes;
}

/// Every cut of the text, or some forty of a long one.
void check_all_cuts(const text::Tokenizer& tokenizer, const std::vector<data::Document>& all, bool honest,
                    Engine& engine, std::int64_t& valid, std::int64_t& refused) {
  const auto text = scored_documents(all, tokenizer, engine);
  const auto targets = std::ssize(text.tokens) - 1;
  for (const auto rule : {text::ByteRule::challenge, text::ByteRule::exact}) {
    std::int64_t before = 0;
    for (std::int64_t cut = 1; cut <= targets;
         cut = std::min(cut + 1 + targets / 40, std::max(targets, cut + 1))) {
      const auto ledger = entered(text, tokenizer, rule, cut);
      const auto most = whole_documents(all, text, cut);
      ASSERT_LE(ledger.text_bytes(), most) << cut;
      ASSERT_GE(ledger.text_bytes(), before) << cut;
      before = ledger.text_bytes();
      if (ledger.verdict().valid()) {
        ASSERT_LE(ledger.bytes(), most) << cut;
        ++valid;
      } else {
        ++refused;
        ASSERT_FALSE(honest && rule == text::ByteRule::exact) << cut << ": " << ledger.verdict().text();
      }
    }
    ASSERT_EQ(text.reference(tokenizer, rule, targets).bytes(), whole_documents(all, text, targets));
  }
}

TEST(ByteRule, AnyTokenizerAndAnyText) {
  Engine engine(with_threads(1));
  std::int64_t valid = 0, refused = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    ASSERT_NO_FATAL_FAILURE(
        check_all_cuts(random_model(seed).load(), documents(seed), false, engine, valid, refused));
  }
  EXPECT_GT(valid, 1000);
  EXPECT_GT(refused, 1000);
}

TEST(ByteRule, HonestTokenizersAreNeverRefusedWhereverTheTextIsCut) {
  Engine engine(with_threads(1));
  const auto ours = text::train_tokenizer({std::string_view(fairway::testing::demo_text()).substr(0, 60'000)},
                                          {.vocab_size = 400});
  auto identity = random_model(3);  // a published type that changes nothing
  identity.byte_fallback = true, identity.dummy_prefix = identity.remove_extra_spaces = false;
  identity.pieces.emplace_back(kSpace, text::PieceKind::normal);
  std::int64_t valid = 0, refused = 0;
  for (std::uint64_t seed = 0; seed < 60; ++seed) {
    SCOPED_TRACE(seed);
    ASSERT_NO_FATAL_FAILURE(check_all_cuts(ours, documents(seed), true, engine, valid, refused));
  }
  std::vector<data::Document> english;
  for (std::size_t i = 0; i < 5; ++i)
    english.push_back({.text = fairway::testing::demo_text().substr(i * 5000, 400), .where = "demo"});
  ASSERT_NO_FATAL_FAILURE(check_all_cuts(fairway::testing::sp1024(), english, true, engine, valid, refused));
}

TEST(ByteRule, TheTextIsCutWhereTheTokensAreThroughNormalisation) {
  // nmt_nfkc: two spaces become one, the ligature two letters, a half three characters (five bytes of two).
  const auto& tokenizer = fairway::testing::sp1024();
  const std::string document = "a  \xEF\xAC\x81ve \xC2\xBD";
  std::vector<std::uint16_t> ids;
  tokenizer.encode(document, ids);
  EXPECT_EQ(tokenizer.source_bytes(document, ids), document.size());
  std::uint64_t last = 0;
  for (std::size_t n = 0; n <= ids.size(); ++n) {
    const auto bytes = tokenizer.source_bytes(document, std::span(ids).first(n));
    EXPECT_GE(bytes, last);
    last = bytes;
  }
  EXPECT_EQ(tokenizer.source_bytes("another text", ids), 1u) << "what they have in common: a";
}

TEST(ByteRule, DocumentsThatNormalisationExpandsAreNamed) {
  Engine engine(with_threads(1));
  const auto& tokenizer = fairway::testing::sp1024();
  const std::vector<data::Document> all = {{.text = "one   two   three\n\n\nfour", .where = "1"},
                                           {.text = "\xC2\xBD \xC2\xBD", .where = "2"}};
  const auto text = scored_documents(all, tokenizer, engine);
  const auto verdict =
      entered(text, tokenizer, text::ByteRule::challenge, std::ssize(text.tokens) - 1).verdict();
  EXPECT_TRUE(verdict.valid()) << "what the first document loses is more than what the second gains";
  EXPECT_THAT(verdict.notes, ::testing::Contains(HasSubstr("document 2: 11 counted, 5 in its text")));
  const auto alone = scored_documents({all[1]}, tokenizer, engine);
  EXPECT_FALSE(
      entered(alone, tokenizer, text::ByteRule::challenge, std::ssize(alone.tokens) - 1).verdict().valid());
}

TEST(ByteRule, ShardsAreHeldAgainstWhatTheyDecodeTo) {
  Engine engine(with_threads(1));
  const auto tokenizer = spaces_behind();
  testing::Folder folder;
  const std::string english = fairway::testing::demo_text().substr(0, 2999) + ".";
  base::write_file(folder / "a.txt", english);
  data::BuildOptions options;
  options.out = folder / "shards";
  options.validation_only = true;
  data::build_shards({folder / "a.txt"}, tokenizer, options, engine.pool(), engine.progress());
  const auto text = read_scored_text({(folder / "shards/*.bin").string()}, {}, tokenizer, 400, engine);
  const auto targets = std::ssize(text.tokens) - 1;
  const auto exact = entered(text, tokenizer, text::ByteRule::exact, targets);
  EXPECT_TRUE(exact.verdict().valid());
  EXPECT_THAT(exact.verdict().notes, ::testing::Contains(HasSubstr("only tokens were given")));
  EXPECT_EQ(exact.text_bytes(), std::ssize(english));
  const auto challenge = entered(text, tokenizer, text::ByteRule::challenge, targets).verdict();
  EXPECT_FALSE(challenge.valid());
  EXPECT_THAT(challenge.reason, HasSubstr("the tokens decode to 3,000"));
}

/// A model of the small recipe with a tokenizer of the trials, over a text.
struct Trial {
  Trial(text::Tokenizer tokenizer, const std::string& document, std::vector<std::string> keys = {})
      : tokens(std::move(tokenizer)),
        recipe(recipe_of(std::move(keys))),
        text(scored_documents({{.text = document, .where = "text"}}, tokens, engine)),
        model(testing::fresh_model(recipe, tokens, engine)) {}
  Recipe recipe_of(std::vector<std::string> keys) const {
    keys.insert(keys.begin(), {"model.vocab_size=400", "score.stride=0"});
    return small_recipe(keys);
  }
  score::ScoreResult score() {
    return score_text(recipe.model, *model.weights, tokens, text, recipe.score, recipe.score.stride, engine);
  }
  Engine engine{with_threads(1)};
  text::Tokenizer tokens;
  Recipe recipe;
  ScoredText text;
  OpenModel model;
};

std::string snow() {
  std::string text;
  for (int i = 0; i < 60; ++i) text += "Snow \xE2\x98\x83 and more snow \xE2\x98\x83.\n";
  return text.substr(0, text.size() - 1);
}

TEST(ByteRule, EveryWayToScoreGivesTheSameVerdict) {
  const std::string english = fairway::testing::demo_text().substr(0, 4000);
  const auto suffix = text::Tokenizer::load(trial("suffix.model"));
  const auto unknown = text::Tokenizer::load(trial("unk_surface.model"));
  const struct {
    text::Tokenizer tokenizer;
    const char* rule;
    std::string text;
    bool valid;
  } cases[] = {{suffix, "challenge", english, false},          {suffix, "exact", english, false},
               {spaces_behind(), "challenge", english, false}, {spaces_behind(), "exact", english, true},
               {unknown, "challenge", snow(), true},           {unknown, "exact", snow(), false}};
  for (const auto& c : cases)
    for (const int tokens : {0, 300}) {
      SCOPED_TRACE(fmt::format("case {}, {} tokens", &c - cases, tokens));
      if (&c == &cases[1] && tokens > 0) continue;  // a space too many behind the last word only
      Trial t(c.tokenizer, c.text,
              {std::string("score.rule=") + c.rule, "score.tokens=" + std::to_string(tokens)});
      const auto plain = t.score();
      const auto adapted = adapt_and_score(t.recipe, *t.model.weights, t.tokens, t.text, t.engine).run.score;
      EXPECT_EQ(plain.verdict.valid(), c.valid) << plain.verdict.text();
      EXPECT_EQ(adapted.verdict.text(), plain.verdict.text());
      EXPECT_EQ(adapted.bytes, plain.bytes);
      EXPECT_EQ(adapted.text_bytes, plain.text_bytes);
      EXPECT_EQ(plain.bytes <= plain.text_bytes, c.valid);
      if (tokens == 0) {
        EXPECT_EQ(plain.text_bytes, std::ssize(c.text));
      }
    }
}

TEST(ByteRule, ExactCountsWhatAnUnknownPieceDecodesTo) {
  Trial t(text::Tokenizer::load(trial("unk_surface.model")), snow(), {"score.rule=exact"});
  EXPECT_EQ(t.score().bytes, 3900);
  EXPECT_EQ(t.tokens.decode(std::span<const std::uint16_t>(t.text.tokens)).size(), 3900u);
}

TEST(ByteRule, TheVerdictNamesTheRuleThatHelps) {
  Trial t(text::Tokenizer::load(trial("suffix.model")), fairway::testing::demo_text().substr(0, 4000));
  EXPECT_THAT(t.score().verdict.notes, ::testing::Contains(HasSubstr("score.rule = \"exact\"")));
}

}  // namespace
}  // namespace fairway::pipeline
