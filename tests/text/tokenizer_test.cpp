#include "fairway/text/tokenizer.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cstring>
#include <thread>

#include "fairway/base/hash.h"
#include "fairway/base/random.h"
#include "strings.h"
#include "support.h"

namespace fairway::text {
namespace {

using testing::data_path;
using ::testing::HasSubstr;
using testing::input_error;
using testing::ours;
using testing::sp1024;

TEST(Tokenizer, LoadsThePublishedModels) {
  EXPECT_EQ(sp1024().vocab_size(), 1024);
  EXPECT_EQ(sp1024().bos_id(), 1);
  EXPECT_EQ(sp1024().transform(), Transform::none);
  EXPECT_TRUE(sp1024().byte_fallback());
  EXPECT_FALSE(sp1024().lossless());
  EXPECT_TRUE(sp1024().strips_leading_space());
  for (const auto& file : base::glob(data_path("tokenizers/*.model").string())) {
    const auto tokenizer = Tokenizer::load(file);
    EXPECT_EQ(tokenizer.bos_id(), 1) << file;
    EXPECT_EQ(tokenizer.model_bytes().size(), std::filesystem::file_size(file));
    EXPECT_EQ(tokenizer.decode(tokenizer.encode("the cat sat on the mat")), "the cat sat on the mat") << file;
  }
}

// Ids from the SentencePiece Python package (0.2.3) on the same model.
TEST(Tokenizer, GivesSentencePiecesIds) {
  const std::vector<std::int32_t> expected = {896, 587, 546, 281, 307, 657,  277, 943, 974, 471, 421, 954,
                                              946, 618, 939, 972, 976, 304,  942, 993, 957, 480, 955, 946,
                                              960, 502, 981, 465, 943, 1012, 939, 244, 163, 156, 132};
  EXPECT_EQ(
      sp1024().encode(
          "The quick brown fox jumps over 12 lazy dogs. \xE2\x80\x9CHello\xE2\x80\x9D \xF0\x9F\x98\x80"),
      expected);
  EXPECT_EQ(sp1024().encode("  a\n\nb  "), sp1024().encode("a b"));
}

TEST(Tokenizer, OursGivesBackEveryNastyString) {
  for (const std::string& text : testing::nasty_strings()) {
    const auto ids = ours().encode(text);
    EXPECT_EQ(ours().decode(ids), text) << ::testing::PrintToString(text.substr(0, 40));
    EXPECT_EQ(std::count(ids.begin(), ids.end(), ours().bos_id()), 0);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), 3), 0) << "unknown";
  }
}

TEST(Tokenizer, OursGivesBackRandomStrings) {
  for (std::uint64_t seed = 0; seed < 2000; ++seed) {
    const std::string text = testing::random_text(seed);
    ASSERT_EQ(ours().decode(ours().encode(text)), text) << seed;
  }
}

TEST(Tokenizer, SixteenAndThirtyTwoBitIdsAgreeAndAppend) {
  std::vector<std::uint16_t> narrow = {7};
  ours().encode("Once upon a time", narrow);
  std::vector<std::int32_t> wide = {7};
  ours().encode("Once upon a time", wide);
  EXPECT_EQ(std::vector<std::int32_t>(narrow.begin(), narrow.end()), wide);
  EXPECT_EQ(ours().decode(std::span<const std::uint16_t>(narrow).subspan(1)), "Once upon a time");
}

TEST(Tokenizer, BadTextNamesThePlace) {
  EXPECT_THAT(input_error([] { sp1024().encode("", "doc 3"); }), HasSubstr("doc 3: empty text"));
  EXPECT_THAT(input_error([] { sp1024().encode("ab\xFF", "doc 4"); }),
              HasSubstr("doc 4: not valid UTF-8 at byte 2"));
  EXPECT_THAT(input_error([] { ours().encode("\xED\xA0\x80", "x"); }), HasSubstr("byte 0"));
  const std::vector<std::int32_t> outside = {5, 1024};
  EXPECT_THAT(input_error([&] { sp1024().decode(outside); }), HasSubstr("token 1024 at position 1"));
  const std::vector<std::int32_t> negative = {-1};
  EXPECT_THAT(input_error([&] { ours().decode(negative); }), HasSubstr("token -1"));
}

TEST(Tokenizer, ByteSequencesThatAreNotUtf8) {
  const std::vector<std::int32_t> half = {sp1024().piece_id("<0xE2>"), sp1024().piece_id("<0x82>")};
  EXPECT_EQ(sp1024().decode(half), "\xEF\xBF\xBD\xEF\xBF\xBD");
  const std::vector<std::int32_t> raw = {ours().piece_id("<0xE2>"), ours().piece_id("<0x82>")};
  EXPECT_EQ(ours().decode(raw), "\xE2\x82");
}

TEST(Tokenizer, TellsTheBytesOfAToken) {
  EXPECT_EQ(sp1024().token_bytes(sp1024().piece_id("\xE2\x96\x81the")), " the");
  EXPECT_EQ(sp1024().token_bytes(sp1024().piece_id("<0xE2>")), "\xE2");
  EXPECT_EQ(sp1024().token_bytes(1), "");
}

// A circular character map: every byte 'a' leads back to a value, without end.
TEST(Tokenizer, RefusesEndlessCharacterMaps) {
  std::vector<std::byte> model(sp1024().model_bytes().begin(), sp1024().model_bytes().end());
  const std::string name = "nmt_nfkc";
  const auto at = std::search(model.begin(), model.end(), name.begin(), name.end(),
                              [](std::byte a, char b) { return a == static_cast<std::byte>(b); });
  ASSERT_NE(at, model.end());
  // name, then tag 0x12, a length of three bytes, the map: 32-bit size, units.
  const auto units = static_cast<std::size_t>(at - model.begin()) + name.size() + 4 + 4;
  ASSERT_EQ(model[units - 8], std::byte{0x12});
  std::uint32_t root = 0;  // offset 0: 'a' is looked up at unit 97
  std::uint32_t loop = 'a' | 1u << 8 | static_cast<std::uint32_t>('a') << 10;  // a value, and back to itself
  std::memcpy(&model[units], &root, 4);
  std::memcpy(&model[units + 4 * 'a'], &loop, 4);
  EXPECT_THAT(input_error([&] { Tokenizer::from_bytes(model, "loop.model"); }),
              HasSubstr("damaged character map"));
}

TEST(Tokenizer, ManyThreadsShareOne) {
  const auto expected = sp1024().encode(testing::demo_text().substr(0, 20'000));
  std::vector<std::vector<std::int32_t>> got(4);
  {
    std::vector<std::jthread> threads;
    for (auto& ids : got)
      threads.emplace_back([&ids] { ids = sp1024().encode(testing::demo_text().substr(0, 20'000)); });
  }
  for (const auto& ids : got) EXPECT_EQ(ids, expected);
}

TEST(Tokenizer, TheModelBytesAreTheWholeTokenizer) {
  const auto copy = Tokenizer::from_bytes(ours().model_bytes());
  EXPECT_EQ(copy.fingerprint(), ours().fingerprint());
  EXPECT_EQ(copy.fingerprint(), base::hash64(ours().model_bytes()));
  EXPECT_EQ(copy.transform(), Transform::lossless_v1);
  EXPECT_TRUE(copy.lossless());
  EXPECT_EQ(copy.encode("a \xE2\x96\x81 b"), ours().encode("a \xE2\x96\x81 b"));
  EXPECT_NE(sp1024().fingerprint(), ours().fingerprint());
}

TEST(Tokenizer, RefusesWhatIsNoModel) {
  EXPECT_THAT(input_error([] { Tokenizer::load("/nowhere/x.model"); }), HasSubstr("/nowhere/x.model"));
  EXPECT_THAT(input_error([] { Tokenizer::from_bytes({}, "e.model"); }), HasSubstr("e.model: empty file"));
  const std::string text = "this is not a model at all";
  EXPECT_THAT(input_error([&] { Tokenizer::from_bytes(std::as_bytes(std::span(text)), "t.model"); }),
              HasSubstr("t.model: not a SentencePiece model"));
  std::string unknown(reinterpret_cast<const char*>(ours().model_bytes().data()),
                      ours().model_bytes().size());
  unknown.back() = '9';
  EXPECT_THAT(input_error([&] { Tokenizer::from_bytes(std::as_bytes(std::span(unknown)), "u.model"); }),
              HasSubstr("unknown transform 'lossless_v9'"));
}

// Cut and flipped models either load or are refused in one line; nothing else.
TEST(Tokenizer, DamagedModelsNeverCrash) {
  for (const Tokenizer* tokenizer : {&sp1024(), &ours()}) {
    const std::vector<std::byte> good(tokenizer->model_bytes().begin(), tokenizer->model_bytes().end());
    const base::Random random(3, "damage");
    int refused = 0;
    for (std::uint64_t i = 0; i < 60; ++i) {
      auto bad = good;
      if (i % 2 == 0)
        bad.resize(random.below(3 * i, bad.size()));
      else
        bad[random.below(3 * i, i % 4 == 1 ? 600 : bad.size())] ^=
            std::byte{static_cast<unsigned char>(1 + random.below(3 * i + 1, 255))};
      try {
        const auto damaged = Tokenizer::from_bytes(bad, "damaged");
        damaged.decode(damaged.encode("Some text \xEF\xAC\x81 to try, with \xC3\xA9."));
      } catch (const base::Error& error) {
        ++refused;
        EXPECT_EQ(std::string(error.what()).find('\n'), std::string::npos);
      }
    }
    EXPECT_GE(refused, 30);
  }
}

TEST(RoundTrip, SaysWhatNormalisationChanges) {
  RoundTripReport report;
  report.add(sp1024(), "plain text stays");
  EXPECT_EQ(report.changed_documents, 0u);
  EXPECT_EQ(report.changed_bytes, 0u);
  report.add(sp1024(), "two  spaces and\na newline");
  EXPECT_EQ(report.documents, 2u);
  EXPECT_EQ(report.changed_documents, 1u);
  EXPECT_EQ(report.bytes, 16u + 25u);
  EXPECT_EQ(report.decoded_bytes, 16u + 24u);
  EXPECT_EQ(report.changed_bytes, 2u);
  RoundTripReport lossless;
  for (const std::string& text : testing::nasty_strings()) lossless.add(ours(), text);
  EXPECT_EQ(lossless.changed_documents, 0u);
  EXPECT_EQ(lossless.decoded_bytes, lossless.bytes);
}

}  // namespace
}  // namespace fairway::text
