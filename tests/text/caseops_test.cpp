// The CaseOps transform, alone and inside tokenizers (docs/spec/caseops_tokenizer.md).
#include "fairway/text/caseops.h"

#include <gmock/gmock.h>
#include <sentencepiece_processor.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <set>

#include "fairway/text/byte_table.h"
#include "fairway/text/stream_decoder.h"
#include "fairway/text/train.h"
#include "strings.h"
#include "support.h"

namespace fairway::text {
namespace {

using ::testing::HasSubstr;
using testing::input_error;

const std::string T(case_operator_text(CaseOperator::title)), A(case_operator_text(CaseOperator::all_caps)),
    C(case_operator_text(CaseOperator::cap_next)), E(case_operator_text(CaseOperator::escape));

TEST(CaseOps, EncodesAsTheOriginal) {
  std::ifstream in(FAIRWAY_GOLDEN_DIR "/caseops_transform.jsonl");
  int lines = 0;
  for (std::string line; std::getline(in, line); ++lines) {
    const auto j = nlohmann::json::parse(line);
    const auto text = j["text"].get<std::string>();
    EXPECT_EQ(caseops_encode(text), j["encoded"].get<std::string>()) << text;
    EXPECT_EQ(caseops_decode(caseops_encode(text)), text);
  }
  EXPECT_EQ(lines, 347);
}

/// All strings of up to `length` of these symbols.
std::vector<std::string> all_strings(int length) {
  const std::vector<std::string> symbols = {"a", "B", " ", T, A, C, E};
  std::vector<std::string> all = {""};
  std::size_t first = 0;
  for (int n = 0; n < length; ++n) {
    const auto end = all.size();
    for (; first < end; ++first)
      for (const auto& symbol : symbols) all.push_back(all[first] + symbol);
  }
  return all;
}

TEST(CaseOps, EveryShortStringComesBackAndNoTwoAreSpelledAlike) {
  const auto all = all_strings(5);
  EXPECT_EQ(all.size(), 1u + 7 + 49 + 343 + 2401 + 16807);
  std::set<std::string> spelled;
  for (const auto& text : all) {
    const auto encoded = caseops_encode(text);
    ASSERT_EQ(caseops_decode(encoded), text);
    ASSERT_TRUE(spelled.insert(encoded).second);
  }
}

TEST(CaseOps, WhatEncodeNeverWritesIsReadOrRefusedButNeverCrashes) {
  int read = 0;
  for (const auto& encoded : all_strings(4)) {
    const auto any = caseops_decode_any(encoded);
    try {
      EXPECT_EQ(caseops_decode(encoded), any);
      ++read;
    } catch (const base::Error& error) {
      EXPECT_EQ(error.kind(), base::ErrorKind::input);
    }
    for (std::size_t n = 0; n < encoded.size(); ++n)  // generating shows the text as it grows
      if ((static_cast<unsigned char>(encoded[n]) & 0xC0) != 0x80) {
        ASSERT_TRUE(any.starts_with(caseops_decode_any(std::string_view(encoded).substr(0, n)))) << encoded;
      }
  }
  EXPECT_GT(read, 100);
  EXPECT_EQ(caseops_decode(C + "a"), "A");
  EXPECT_EQ(caseops_decode(T + "a" + C + "b"), "AB");
  EXPECT_EQ(caseops_decode_any("x" + T + " y" + A + C + "z" + T), "x yZ");
}

TEST(CaseOps, EachErrorHasItsLine) {
  const auto refused = [](const std::string& encoded) {
    return input_error([&] { caseops_decode(encoded, "page"); });
  };
  for (const auto& encoded : {T + " ", A + "1", C + " ", T + T + "a", A + T + "a", T + A + "a", "a" + T + "b",
                              C + T + "a", C + C + "a", T + E + E, T, A, C, E, "a" + C, T + E + "ab"})
    EXPECT_THAT(refused(encoded), HasSubstr("page: no CaseOps text")) << encoded;
  EXPECT_THAT(refused("ab" + T), HasSubstr("(byte 2)"));
  EXPECT_THAT(refused("ab " + T), HasSubstr("nothing follows an operator at the end (byte 6)"));
}

class Published : public ::testing::TestWithParam<const char*> {
 protected:
  static std::string path() { return std::string(FAIRWAY_DATA_DIR "/tokenizers/") + GetParam() + ".model"; }
  const Tokenizer tokenizer = Tokenizer::load(path());
};

TEST_P(Published, IsKnownByItsOperators) {
  EXPECT_EQ(tokenizer.transform(), Transform::caseops);
  EXPECT_EQ(tokenizer.piece_id(T), 4);
  EXPECT_EQ(tokenizer.piece_id(E), 7);
}

TEST_P(Published, GivesBackTheCase) {
  for (const char* text : {"The NASA Launch", "iPhone OpenAI", "I am", "McDonald's eBay", "USAs",
                           "x\xEE\x80\x81y", "\xEE\x80\x84"})
    EXPECT_EQ(tokenizer.decode(tokenizer.encode(text)), text);
  EXPECT_FALSE(tokenizer.lossless()) << "white space is folded";
}

TEST_P(Published, FilesFromBeforeHaveItAsItIs) {
  const auto plain = Tokenizer::from_bytes(tokenizer.model_bytes(), "older", true);
  EXPECT_EQ(plain.transform(), Transform::none);
  sentencepiece::SentencePieceProcessor model;
  ASSERT_TRUE(model.Load(path()).ok());
  EXPECT_EQ(plain.encode("The NASA Launch"), model.EncodeAsIds("The NASA Launch"));
}

/// docs/spec/caseops_tokenizer.md section 6.2: by token alone.
TEST_P(Published, OperatorsCountNothing) {
  const auto table = make_byte_table(tokenizer, ByteRule::challenge);
  const auto count = [&](const char* text) { return testing::counted(tokenizer, table, text); };
  EXPECT_EQ(count("The NASA Launch"), 15u);
  EXPECT_EQ(count("iPhone OpenAI"), 13u);
  EXPECT_EQ(count("The quick brown FOX."), 20u);
  EXPECT_EQ(count("McDonald's eBay"), 15u);
  EXPECT_EQ(count("x\xEE\x80\x81y"), 2u) << "an escaped operator too, which is too few";
}

TEST_P(Published, SourceBytesAreThoseOfTheTextAsItStands) {
  const std::string text = "The NASA Launch of\n iPhones IN Caf\xC3\xA9s";
  std::vector<std::uint16_t> ids;
  tokenizer.encode(text, ids);
  std::uint64_t before = 0;
  for (std::size_t n = 1; n <= ids.size(); ++n) {
    const auto bytes = tokenizer.source_bytes(text, std::span(ids).first(n));
    EXPECT_GE(bytes, before) << n << " " << tokenizer.piece(ids[n - 1]);
    before = bytes;
  }
  EXPECT_EQ(before, text.size());
}

INSTANTIATE_TEST_SUITE_P(Models, Published,
                         ::testing::Values("fineweb_8192_bpe_lossless_caps_caseops_v1_reserved",
                                           "fineweb_10240_bpe_lossless_caps_caseops_v1_reserved",
                                           "fineweb_10240_bpe_lossless_caps_caseops_v1_identity"),
                         [](const auto& test) {
                           return std::string(test.param).substr(8, 5) +
                                  (std::string_view(test.param).ends_with("identity") ? "identity" : "");
                         });

class Ours : public ::testing::Test {
 protected:
  static const Tokenizer& tokenizer() {
    static const Tokenizer trained = [] {
      const std::vector<std::string_view> documents = {
          std::string_view(testing::demo_text()).substr(0, 60'000)};
      return train_tokenizer(documents, {.vocab_size = 600, .case_operators = true});
    }();
    return trained;
  }
};

TEST_F(Ours, KeepsEveryTextAndCountsItsBytes) {
  EXPECT_EQ(tokenizer().transform(), Transform::caseops_lossless_v1);
  EXPECT_TRUE(tokenizer().lossless());
  EXPECT_EQ(tokenizer().piece_id(T), 4);
  EXPECT_EQ(tokenizer().piece_id(E), 7);
  EXPECT_EQ(default_byte_rule(tokenizer()), ByteRule::exact);
  const auto table = make_byte_table(tokenizer(), ByteRule::exact);
  auto texts = all_strings(4);
  texts.insert(texts.end(), testing::nasty_strings().begin(), testing::nasty_strings().end());
  texts.emplace_back(hostile_text());
  texts.push_back(E + E + E + E + T + " " + E + A + "NASA" + E);
  for (const auto& text : texts) {
    if (text.empty()) continue;
    ASSERT_EQ(tokenizer().decode(tokenizer().encode(text)), text);
    ASSERT_EQ(testing::counted(tokenizer(), table, text), text.size()) << text;
  }
}

TEST_F(Ours, TheFileIsAPlainModelThatKnowsItsTransform) {
  const auto copy = Tokenizer::from_bytes(tokenizer().model_bytes(), "copy");
  EXPECT_EQ(copy.transform(), Transform::caseops_lossless_v1);
  EXPECT_EQ(copy.encode("The NASA"), tokenizer().encode("The NASA"));
}

TEST_F(Ours, GeneratedTextMayHoldOperatorsAnywhere) {
  StreamDecoder decoder(tokenizer(), "", {});
  std::string text;
  for (const auto id : {4, 4, tokenizer().piece_id("a"), 5, tokenizer().piece_id(" "), 7})
    if (id >= 0) text += decoder.add(id);
  text += decoder.finish();
  EXPECT_EQ(text.substr(0, 1), "A");
  const std::vector<std::int32_t> ids = {4, 4};
  EXPECT_THAT(input_error([&] { tokenizer().decode(ids); }), HasSubstr("no CaseOps text"));
}

TEST(CaseOps, AModelThatOnlySaysSoIsRefused) {
  const auto bytes = testing::sp1024().model_bytes();
  const auto lying = std::string(reinterpret_cast<const char*>(bytes.data()), bytes.size()) +
                     "\xC2\x3E\x07"
                     "caseops";
  EXPECT_THAT(input_error([&] { Tokenizer::from_bytes(std::as_bytes(std::span(lying)), "lying"); }),
              HasSubstr("pieces 4 to 7 are not the case operators"));
}

}  // namespace
}  // namespace fairway::text
