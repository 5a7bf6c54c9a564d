// "Lossless" is found out, not believed.
#include <gmock/gmock.h>

#include "fairway/base/text.h"
#include "fairway/text/byte_table.h"
#include "strings.h"
#include "support.h"
#include "support/sentencepiece_model.h"

namespace fairway::text {
namespace {

using fairway::testing::SentencePieceModel;
using ::testing::HasSubstr;
using testing::input_error;

const std::string kSpace = "\xE2\x96\x81";

/// A model of ours, but for what a test takes away.
SentencePieceModel lossless_model() {
  SentencePieceModel model;
  model.byte_fallback = true, model.dummy_prefix = model.remove_extra_spaces = false;
  model.transform = "lossless_v1";
  for (const char* piece : {"a", "b", "c"}) model.pieces.emplace_back(piece, PieceKind::normal);
  return model;
}

void expect_round_trip(const Tokenizer& tokenizer, const std::string& text) {
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text) << ::testing::PrintToString(text.substr(0, 40));
}

TEST(Lossless, TheSpaceIsInEveryVocabularyThatIsTrained) {
  std::string joined = testing::demo_text().substr(0, 30'000);
  std::erase(joined, ' ');
  const std::string rare = joined + " z";  // a space that no coverage below 1 would keep
  const struct {
    std::string text;
    ModelType type;
  } cases[] = {{rare, ModelType::bpe}, {joined, ModelType::bpe}, {joined, ModelType::unigram}};
  for (const auto& c : cases)
    for (const double coverage : {0.98, 1.0}) {
      const auto tokenizer =
          train_tokenizer({c.text}, {.vocab_size = 400, .type = c.type, .character_coverage = coverage});
      ASSERT_TRUE(tokenizer.lossless());
      const auto space = tokenizer.piece_id(kSpace);
      ASSERT_GE(space, 0);
      EXPECT_EQ(tokenizer.encode("a b")[1], space);
      expect_round_trip(tokenizer, std::string(hostile_text()));
      EXPECT_EQ(make_byte_table(tokenizer, ByteRule::exact).count(static_cast<std::uint32_t>(space), 1), 1u);
    }
}

TEST(Lossless, ATextWithoutASpaceGivesAVocabularyWithOne) {
  const auto text =
      base::read_text_file(std::filesystem::path(FAIRWAY_SOURCE_DIR) / "tests/trials/no_spaces.txt");
  std::vector<std::string_view> lines;
  for (std::string_view rest = text; !rest.empty();) {
    const auto end = std::min(rest.find('\n'), rest.size());
    lines.push_back(rest.substr(0, end));
    rest.remove_prefix(std::min(end + 1, rest.size()));
  }
  const auto tokenizer = train_tokenizer(lines, {.vocab_size = 300});
  expect_round_trip(tokenizer, "a b");
  EXPECT_TRUE(tokenizer.lossless());
}

TEST(Lossless, AModelThatSaysSoIsTried) {
  auto model = lossless_model();
  EXPECT_FALSE(model.load().lossless()) << "without a piece for the space it comes back as U+2581";
  EXPECT_EQ(default_byte_rule(model.load()), ByteRule::challenge);
  model.pieces.emplace_back(kSpace, PieceKind::normal);
  EXPECT_TRUE(model.load().lossless());
  EXPECT_EQ(default_byte_rule(model.load()), ByteRule::exact);
  for (const auto& text : testing::nasty_strings()) expect_round_trip(model.load(), text);
  model.pieces.back().second = PieceKind::unused;
  model.bpe = false;
  EXPECT_FALSE(model.load().lossless()) << "an unused piece is no piece";
}

TEST(Lossless, AModelThatNormalisesIsRefusedWhenItSaysSo) {
  for (const auto change : {0, 1, 2}) {
    auto model = lossless_model();
    if (change == 0) model.dummy_prefix = true;
    if (change == 1) model.remove_extra_spaces = true;
    if (change == 2) model.byte_fallback = false;
    EXPECT_THAT(input_error([&] { model.load(); }), HasSubstr("says lossless_v1 but normalises"));
  }
}

TEST(Lossless, HostileTextHoldsWhatIsLostElsewhere) {
  const auto text = hostile_text();
  EXPECT_FALSE(base::invalid_utf8_at(text));
  for (const std::string& part :
       {std::string("  "), kSpace, std::string("\t"), std::string("\r\n"), std::string(1, '\0'),
        std::string("<s>"), std::string("<0x41>"), std::string("\xC2\xBD")})
    EXPECT_THAT(std::string(text), HasSubstr(part));
  EXPECT_TRUE(text.starts_with(' '));
  EXPECT_TRUE(text.ends_with("  "));
  RoundTripReport published;
  published.add(testing::sp1024(), text);
  EXPECT_EQ(published.changed_documents, 1u);
}

TEST(ExactRule, CountsWhatAnUnknownPieceDecodesTo) {
  SentencePieceModel model;
  model.pieces = {{kSpace + "a", PieceKind::normal}, {"a", PieceKind::normal}};
  for (const std::string& surface :
       {std::string(" \xE2\x81\x87 "), std::string(), std::string("<UNKNOWN>")}) {
    model.unknown_surface = surface;
    const auto tokenizer = model.load();
    const auto ids = tokenizer.encode(
        "a\xE2\x98\x83"
        "a");
    EXPECT_EQ(tokenizer.decode(ids), "a" + surface + "a");
    const auto exact = make_byte_table(tokenizer, ByteRule::exact);
    EXPECT_EQ(exact.count(0, 2), surface.size());
    EXPECT_EQ(make_byte_table(tokenizer, ByteRule::challenge).count(0, 2), 0u);
  }
}

TEST(ExactRule, CountsEverySpaceOnceWhereverItStandsInAPiece) {
  SentencePieceModel model;
  model.pieces = {{kSpace, PieceKind::normal},
                  {"a" + kSpace, PieceKind::normal},
                  {kSpace + "a" + kSpace + "b", PieceKind::normal},
                  {"unused" + kSpace, PieceKind::unused}};
  const auto tokenizer = model.load();
  const auto exact = make_byte_table(tokenizer, ByteRule::exact);
  EXPECT_EQ(exact.count(2, 5), 1u);
  EXPECT_EQ(exact.count(2, 1), 0u) << "stripped at the start of a text";
  EXPECT_EQ(exact.count(3, 1), 2u);
  EXPECT_EQ(exact.count(4, 3), 4u);
  EXPECT_EQ(exact.count(4, 1), 3u);
  EXPECT_EQ(exact.count(5, 3), 7u);
  const auto challenge = make_byte_table(tokenizer, ByteRule::challenge);
  EXPECT_EQ(challenge.count(3, 1), 4u) << "as the published script counts";
  EXPECT_EQ(challenge.count(4, 3), 6u);
  EXPECT_EQ(challenge.count(5, 3), 0u);
}

}  // namespace
}  // namespace fairway::text
