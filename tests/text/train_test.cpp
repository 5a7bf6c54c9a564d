#include "fairway/text/train.h"

#include <gmock/gmock.h>
#include <sentencepiece_processor.h>

#include <algorithm>

#include "strings.h"
#include "support.h"

namespace fairway::text {
namespace {

using ::testing::HasSubstr;
using testing::input_error;
using testing::ours;

TEST(TrainTokenizer, HasTheChallengesSpecialIds) {
  EXPECT_EQ(ours().vocab_size(), 1024);
  EXPECT_EQ(ours().piece(0), "<pad>");
  EXPECT_EQ(ours().piece(1), "<s>");
  EXPECT_EQ(ours().piece(2), "</s>");
  EXPECT_EQ(ours().piece(3), "<unk>");
  EXPECT_EQ(ours().piece(4), "<0x00>");
  EXPECT_EQ(ours().piece(259), "<0xFF>");
  EXPECT_EQ(ours().bos_id(), 1);
  EXPECT_FALSE(ours().strips_leading_space());
}

TEST(TrainTokenizer, LearnsNewlinesAndKeepsDigitsApart) {
  EXPECT_GE(ours().piece_id("\n"), 260);
  EXPECT_GE(ours().piece_id("\n\n"), 260);
  EXPECT_GE(ours().piece_id("\xE2\x96\x81the"), 260);
  for (std::int32_t id = 260; id < ours().vocab_size(); ++id) {
    const std::string& piece = ours().piece(id);
    const auto digits =
        std::count_if(piece.begin(), piece.end(), [](char c) { return c >= '0' && c <= '9'; });
    EXPECT_TRUE(digits == 0 || piece.size() == 1) << piece;
  }
}

TEST(TrainTokenizer, SameTextSameBytes) {
  const auto again = train_tokenizer({std::string_view(testing::demo_text()).substr(0, 200'000)});
  EXPECT_EQ(again.fingerprint(), ours().fingerprint());
  TrainTokenizerOptions other;
  other.vocab_size = 600;
  EXPECT_EQ(train_tokenizer({std::string_view(testing::demo_text()).substr(0, 200'000)}, other).vocab_size(),
            600);
}

TEST(TrainTokenizer, UnigramIsLosslessToo) {
  TrainTokenizerOptions options;
  options.type = ModelType::unigram;
  options.vocab_size = 500;
  const auto tokenizer = train_tokenizer({std::string_view(testing::demo_text()).substr(0, 60'000)}, options);
  for (const std::string& text : testing::nasty_strings())
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

// A text full of the trainer's own marks, and one without any space.
TEST(TrainTokenizer, SurvivesItsOwnMarks) {
  std::string text;
  for (int i = 0; i < 400; ++i)
    text +=
        "a\tb \xE2\x96\x81"
        "c\xE2\x96\x85 dd" +
        std::string(1, '\0') + " word" + std::to_string(i * i) + "\r\n";
  TrainTokenizerOptions options;
  options.vocab_size = 300;
  const auto tokenizer = train_tokenizer({text, std::string(20'000, 'x')}, options);
  EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
}

TEST(TrainTokenizer, BadInputIsOneLine) {
  EXPECT_THAT(input_error([] { train_tokenizer(std::vector<std::string_view>{}); }), HasSubstr("no text"));
  EXPECT_THAT(input_error([] {
                train_tokenizer({"good", "bad \xC0"});
              }),
              HasSubstr("document 2: not valid UTF-8 at byte 4"));
  TrainTokenizerOptions options;
  options.vocab_size = 100;
  EXPECT_THAT(input_error([&] { train_tokenizer({"text"}, options); }), HasSubstr("vocabulary of 100"));
  options.vocab_size = 60'000;
  EXPECT_THAT(input_error([&] { train_tokenizer({"far too little text"}, options); }),
              HasSubstr("60000 pieces can be trained on this text (Vocabulary size"));
}

// Any SentencePiece program can load our file; for text without a literal U+2581 it gives the same ids.
TEST(TrainTokenizer, TheFileIsAPlainSentencePieceModel) {
  sentencepiece::SentencePieceProcessor plain;
  const auto bytes = ours().model_bytes();
  ASSERT_TRUE(
      plain.LoadFromSerializedProto({reinterpret_cast<const char*>(bytes.data()), bytes.size()}).ok());
  for (const std::string& text : testing::nasty_strings()) {
    if (text.find("\xE2\x96\x81") == std::string::npos) {
      EXPECT_EQ(plain.EncodeAsIds(text), ours().encode(text));
    }
    std::string decoded;
    ASSERT_TRUE(plain.Decode(ours().encode(text), &decoded).ok());
    EXPECT_EQ(decoded, text);
  }
}

}  // namespace
}  // namespace fairway::text
