// Models made by hand, of kinds of pieces that no published one has: what they encode to, decode to and
// count.
#include <gmock/gmock.h>
#include <sentencepiece_processor.h>

#include "fairway/text/byte_table.h"
#include "support.h"
#include "support/sentencepiece_model.h"

namespace fairway::text {
namespace {

using ::testing::HasSubstr;
using testing::input_error;

struct Made {
  bool lossless_field = false, dummy_prefix = false, extra_spaces_removed = false, byte_fallback = true;
  bool with_unused = false;
};

/// Letters and words over bytes. The unused piece is the likeliest: SentencePiece never gives it, but could
/// merge to it on the way.
std::string made(const Made& how) {
  testing::SentencePieceModel model;
  if (how.with_unused) model.pieces.emplace_back("abc", PieceKind::unused);
  for (const char* text : {"\xE2\x96\x81", "a", "b", "c", "ab",
                           "\xE2\x96\x81"
                           "ab",
                           "bc", "\xE2\x96\x81\xE2\x96\x81"})
    model.pieces.emplace_back(text, PieceKind::normal);
  for (const char* text : {"<pad>", "</s>"}) model.pieces.emplace_back(text, PieceKind::control);
  model.bpe = true;
  model.byte_fallback = how.byte_fallback;
  model.dummy_prefix = how.dummy_prefix;
  model.remove_extra_spaces = how.extra_spaces_removed;
  if (how.lossless_field) model.transform = "lossless_v1";
  return model.bytes();
}

Tokenizer load(const std::string& model) {
  return Tokenizer::from_bytes(std::as_bytes(std::span(model.data(), model.size())), "hand-made");
}

TEST(HandMade, ATokenizerThatLiesAboutBeingLosslessIsRefused) {
  EXPECT_TRUE(load(made({.lossless_field = true})).lossless());
  EXPECT_FALSE(load(made({})).lossless());
  for (const auto& lie : {Made{.lossless_field = true, .dummy_prefix = true},
                          Made{.lossless_field = true, .extra_spaces_removed = true},
                          Made{.lossless_field = true, .byte_fallback = false}})
    EXPECT_THAT(input_error([&] { load(made(lie)); }), HasSubstr("lossless_v1"));
  const auto published = testing::sp1024().model_bytes();
  // Field 1000 with eleven bytes.
  const auto lying = std::string(reinterpret_cast<const char*>(published.data()), published.size()) +
                     "\xC2\x3E\x0B"
                     "lossless_v1";
  EXPECT_THAT(input_error([&] { load(lying); }), HasSubstr("lossless_v1"));
}

TEST(HandMade, UnusedPiecesAreEncodedAsSentencePieceDoes) {
  for (const bool with_unused : {false, true}) {
    const auto model = made({.with_unused = with_unused});
    const auto tokenizer = load(model);
    sentencepiece::SentencePieceProcessor plain;
    ASSERT_TRUE(plain.LoadFromSerializedProto(model).ok());
    for (const char* text : {"abc", "ab c", " abc abcabc", "  a", "bca", "x", "ab\xC3\xA9"})
      EXPECT_EQ(tokenizer.encode(text), plain.EncodeAsIds(text)) << with_unused << " '" << text << "'";
  }
}

TEST(HandMade, ATextThatHoldsAControlSymbolsNameIsRefusedOrBytes) {
  testing::SentencePieceModel model;
  model.bpe = true;
  model.pieces.emplace_back("\xE2\x98\x83", PieceKind::control);
  for (const char* text : {"a", "b", "\xE2\x96\x81"}) model.pieces.emplace_back(text, PieceKind::normal);
  EXPECT_THAT(input_error([&] { model.load().encode("a\xE2\x98\x83", "notes.txt"); }),
              HasSubstr("notes.txt: this tokenizer cannot encode the text"));
  model.byte_fallback = true;
  model.dummy_prefix = model.remove_extra_spaces = false;
  EXPECT_EQ(model.load().decode(model.load().encode("a\xE2\x98\x83")), "a\xE2\x98\x83");
}

/// Every token after another counts by the exact rule what it adds to the decoded text.
void expect_exact(const Tokenizer& tokenizer, const std::string& name) {
  const auto table = make_byte_table(tokenizer, ByteRule::exact);
  const auto bos = static_cast<std::uint32_t>(tokenizer.bos_id());
  const auto a = tokenizer.piece_id("a");
  ASSERT_GE(a, 0);
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto kind = tokenizer.kind(id);
    if (kind == PieceKind::byte && id != tokenizer.piece_id("<0x41>"))
      continue;  // more than one make a character
    const std::vector<std::int32_t> alone = {id}, before = {a}, behind = {a, id};
    EXPECT_EQ(table.count(static_cast<std::uint32_t>(id), bos), tokenizer.decode(alone).size())
        << name << ": '" << tokenizer.piece(id) << "' first";
    EXPECT_EQ(table.count(static_cast<std::uint32_t>(id), static_cast<std::uint32_t>(a)),
              tokenizer.decode(behind).size() - tokenizer.decode(before).size())
        << name << ": '" << tokenizer.piece(id) << "' behind another";
  }
}

TEST(HandMade, ExactCountsAreWhatEachPieceAddsToTheDecodedText) {
  expect_exact(load(made({.with_unused = true})), "plain");
  expect_exact(load(made({.dummy_prefix = true, .extra_spaces_removed = true, .with_unused = true})),
               "stripping");
}

TEST(HandMade, ChallengeCountsGiveNothingForWhatIsNoText) {
  const auto tokenizer = load(made({.with_unused = true}));
  const auto table = make_byte_table(tokenizer, ByteRule::challenge);
  const auto a = static_cast<std::uint32_t>(tokenizer.piece_id("a"));
  for (const char* piece : {"<pad>", "<s>", "</s>", "<unk>", "abc"})
    EXPECT_EQ(table.count(static_cast<std::uint32_t>(tokenizer.piece_id(piece)), a), 0u) << piece;
  const auto ab =
      static_cast<std::uint32_t>(tokenizer.piece_id("\xE2\x96\x81"
                                                    "ab"));
  EXPECT_EQ(table.count(ab, a), 3u);
  for (const char* piece : {"<s>", "<unk>", "abc"})
    EXPECT_EQ(table.count(ab, static_cast<std::uint32_t>(tokenizer.piece_id(piece))), 2u)
        << "after " << piece;
}

TEST(HandMade, PiecesOfAnyLengthCountAllTheirBytes) {
  testing::SentencePieceModel model;
  model.bpe = model.byte_fallback = true;
  const std::vector<std::size_t> lengths = {1, 15, 16, 17, 31, 255, 256, 300};
  for (const auto n : lengths) {
    model.pieces.emplace_back(std::string(n, 'a'), PieceKind::normal);
    model.pieces.emplace_back("\xE2\x96\x81" + std::string(n, 'b'), PieceKind::normal);
  }
  const auto tokenizer = load(model.bytes());
  for (const auto rule : {ByteRule::challenge, ByteRule::exact}) {
    const auto table = make_byte_table(tokenizer, rule);
    const auto a = static_cast<std::uint32_t>(tokenizer.piece_id("a"));
    const auto bytes = [&](const std::string& piece) {
      return table.count(static_cast<std::uint32_t>(tokenizer.piece_id(piece)), a);
    };
    for (const auto n : lengths) {
      EXPECT_EQ(bytes(std::string(n, 'a')), n) << base::name_of(rule);
      EXPECT_EQ(bytes("\xE2\x96\x81" + std::string(n, 'b')), n + 1) << base::name_of(rule);
    }
  }
}

// What the trainer is handed.

TrainTokenizerOptions small_vocabulary() {
  TrainTokenizerOptions options;
  options.vocab_size = 300;
  return options;
}

TEST(TrainTokenizer, ReadsNoMoreThanItsLimit) {
  constexpr std::size_t bytes = 20'000;
  auto asked = [](std::uint64_t limit) {
    std::size_t documents = 0;
    TrainTokenizerOptions options;
    options.vocab_size = 400;
    options.max_bytes = limit;
    train_tokenizer(
        [&](std::string& document) {
          document = testing::demo_text().substr(documents * bytes, bytes);
          return ++documents <= 10;
        },
        options);
    return documents;
  };
  EXPECT_EQ(asked(1'000'000), 11u) << "all ten, and the end";
  EXPECT_EQ(asked(bytes * 5 / 2), 3u);
  EXPECT_EQ(asked(1), 1u);
}

TEST(TrainTokenizer, ReservedCharactersPartSentences) {
  std::string left, right;
  for (int i = 0; i < 200; ++i) {
    left += "some words of the left " + std::to_string(i % 13) + " ";
    right += "others to the right " + std::to_string(i % 7) + " ";
  }
  const auto parted = train_tokenizer({left, right}, small_vocabulary());
  for (const std::string mark : {"\t", "\xE2\x96\x81", "\xE2\x96\x85"})
    EXPECT_EQ(train_tokenizer({left + mark + right}, small_vocabulary()).fingerprint(), parted.fingerprint())
        << "mark of " << mark.size() << " bytes";
  EXPECT_EQ(train_tokenizer({left + std::string(1, '\0') + right}, small_vocabulary()).fingerprint(),
            parted.fingerprint());
}

// Without a space, a sentence that went on behind the mark would be cut at 4,000 bytes, which parts one "xj".
TEST(TrainTokenizer, ReservedCharactersBeginALengthAnew) {
  const auto prose = testing::demo_text().substr(0, 20'000);
  const std::string left(3000, 'k');
  std::string right;
  for (int i = 0; i < 750; ++i) right += "qzxj";
  TrainTokenizerOptions options;
  options.vocab_size = 500;
  const auto parted = train_tokenizer({prose, left, right}, options).fingerprint();
  for (const std::string& mark :
       {std::string("\t"), std::string("\xE2\x96\x81"), std::string("\xE2\x96\x85"), std::string(1, '\0')})
    EXPECT_EQ(train_tokenizer({prose, left + mark + right}, options).fingerprint(), parted)
        << ::testing::PrintToString(mark);
}

TEST(TrainTokenizer, DigitsAreKeptApartWhereAsked) {
  auto text = testing::demo_text().substr(0, 20'000);
  for (int i = 0; i < 500; ++i) text += " 1984";
  for (const bool split : {true, false}) {
    TrainTokenizerOptions options;
    options.vocab_size = 500;
    options.split_digits = split;
    const auto tokenizer = train_tokenizer({text}, options);
    EXPECT_GE(tokenizer.piece_id("9"), 260);
    int together = 0;
    for (std::int32_t id = 260; id < tokenizer.vocab_size(); ++id)
      together += tokenizer.piece(id).find("84") != std::string::npos;
    EXPECT_EQ(together == 0, split) << together;
  }
}

TEST(TrainTokenizer, LongTextsAreNeverCutInsideACharacter) {
  // No space in 6,000 bytes: a sentence ends at 4,000, which is inside a character of three bytes (4,000 = 3
  // x 1,333 + 1) and, with a letter before, of two.
  std::string two = "a", three;
  for (int i = 0; i < 2000; ++i) {
    three += std::string("\xE6\xBC") + static_cast<char>(0x80 + i * i % 41);
    two += std::string("\xC3") + static_cast<char>(0xA0 + i * i % 23);
    if (i % 2) two += std::string("\xC3") + static_cast<char>(0x80 + i * i % 19);
  }
  for (const auto& [text, end] : {std::pair<std::string, std::size_t>{three, 3999}, {two, 3999}}) {
    const auto whole = train_tokenizer({text}, small_vocabulary());
    const auto cut = train_tokenizer(
        {std::string_view(text).substr(0, end), std::string_view(text).substr(end)}, small_vocabulary());
    EXPECT_EQ(whole.fingerprint(), cut.fingerprint());
    for (std::int32_t id = 260; id < whole.vocab_size(); ++id)
      EXPECT_EQ(whole.piece(id).find("\xEF\xBF\xBD"), std::string::npos) << whole.piece(id);
  }
}

}  // namespace
}  // namespace fairway::text
