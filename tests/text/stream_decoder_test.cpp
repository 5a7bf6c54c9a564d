#include "fairway/text/stream_decoder.h"

#include <gmock/gmock.h>

#include "fairway/base/random.h"
#include "fairway/base/text.h"
#include "support.h"

namespace fairway::text {
namespace {

using testing::ours;
using testing::sp1024;

const std::string kReplaced = "\xEF\xBF\xBD";

/// A published model whose normalisation is its denormalisation too, so that decoded text is rewritten.
Tokenizer denormalising() {
  const auto bytes = sp1024().model_bytes();
  std::string model(reinterpret_cast<const char*>(bytes.data()), bytes.size());
  const auto varint = [&](std::size_t& at) {
    std::size_t value = 0;
    for (int shift = 0;; shift += 7) {
      const auto byte = static_cast<unsigned char>(model[at++]);
      value |= std::size_t{byte & 0x7FU} << shift;
      if (byte < 0x80) return value;
    }
  };
  for (std::size_t at = 0; at < model.size();) {  // ModelProto has messages only
    const auto tag = varint(at);
    const auto start = at, size = varint(at);
    if (tag == (3U << 3 | 2U))  // normalizer_spec, once more as denormalizer_spec
      return Tokenizer::from_bytes(
          std::as_bytes(std::span<const char>(model + '\x2A' + model.substr(start, at - start + size))));
    at += size;
  }
  throw std::runtime_error("no normalizer_spec");
}

struct Streamed {
  std::vector<std::string> parts;
  std::string text;
};

Streamed stream(const Tokenizer& tokenizer, const std::string& prompt, std::span<const std::int32_t> ids) {
  std::vector<std::int32_t> prompt_ids;
  if (!prompt.empty()) prompt_ids = tokenizer.encode(prompt);
  StreamDecoder decoder(tokenizer, prompt, prompt_ids);
  Streamed all;
  std::string sum;
  for (const auto id : ids) all.parts.push_back(decoder.add(id));
  all.parts.push_back(decoder.finish());
  for (const auto& part : all.parts) {
    EXPECT_EQ(base::invalid_utf8_at(part), std::nullopt);
    sum += part;
  }
  all.text = decoder.text();
  EXPECT_EQ(sum, all.text);
  // The parts are what the whole decodes to, at once.
  auto whole_ids = prompt_ids;
  whole_ids.insert(whole_ids.end(), ids.begin(), ids.end());
  const auto whole = valid_utf8(tokenizer.decode(std::span<const std::int32_t>(whole_ids)));
  EXPECT_TRUE(whole.ends_with(all.text)) << whole;
  return all;
}

std::vector<std::int32_t> byte_ids(const Tokenizer& tokenizer, std::string_view bytes) {
  std::vector<std::int32_t> ids;
  for (const unsigned char c : bytes) ids.push_back(tokenizer.piece_id(fmt::format("<0x{:02X}>", c)));
  return ids;
}

TEST(ValidUtf8, EveryStrayByteIsReplaced) {
  EXPECT_EQ(valid_utf8("caf\xC3\xA9"), "caf\xC3\xA9");
  EXPECT_EQ(valid_utf8("a\xFF\xFE"
                       "b\xE2\x82"),
            "a" + kReplaced + kReplaced + "b" + kReplaced + kReplaced);
  EXPECT_EQ(valid_utf8(""), "");
}

TEST(StreamDecoder, ACharacterWaitsForAllItsBytes) {
  for (const auto* tokenizer : {&sp1024(), &ours()}) {
    const auto ids = byte_ids(*tokenizer, "\xF0\x9F\x98\x80\xC3\xA9");
    const auto all = stream(*tokenizer, "the", ids);
    EXPECT_THAT(all.parts, ::testing::ElementsAre("", "", "", "\xF0\x9F\x98\x80", "", "\xC3\xA9", ""));
  }
}

TEST(StreamDecoder, WhatIsCompleteDoesNotWait) {
  const auto all = stream(ours(), "", byte_ids(ours(), "e\xCB\xBD\xC3\xA9\xCB"));
  EXPECT_THAT(all.parts, ::testing::ElementsAre("e", "", "\xCB\xBD", "", "\xC3\xA9", "", kReplaced));
}

TEST(StreamDecoder, BytesThatNeverBecomeACharacterAreReplacedAlike) {
  for (const auto* tokenizer : {&sp1024(), &ours()}) {
    auto ids = byte_ids(*tokenizer, "\xFF\xE2\x82\xE2\x82\xAC\x80\xF0\x9F");
    EXPECT_EQ(stream(*tokenizer, "the", ids).text,
              kReplaced + kReplaced + kReplaced + "\xE2\x82\xAC" + kReplaced + kReplaced + kReplaced);
    const auto first = stream(*tokenizer, "the", byte_ids(*tokenizer, "\xE2\x82x"));
    EXPECT_EQ(first.parts[2], kReplaced + kReplaced + "x") << "no later token can change it";
  }
}

TEST(StreamDecoder, AControlPieceDoesNotPartACharacterOfALosslessTokenizer) {
  auto ids = byte_ids(ours(), "\xE2\x82");
  ids.push_back(ours().piece_id("</s>"));
  ids.push_back(byte_ids(ours(), "\xAC")[0]);
  EXPECT_EQ(stream(ours(), "", ids).text, "\xE2\x82\xAC");
}

TEST(StreamDecoder, TheFirstSpaceBelongsToTheText) {
  const std::vector<std::int32_t> word = {sp1024().piece_id("\xE2\x96\x81of")};
  ASSERT_GE(word[0], 0);
  EXPECT_EQ(stream(sp1024(), "the", word).text, " of");
  EXPECT_EQ(stream(sp1024(), "", word).text, "of") << "at the start of a text there is none";
  EXPECT_EQ(stream(sp1024(), "\xC2\xBD", word).text, " of") << "a prompt that normalisation changes";
  EXPECT_EQ(stream(ours(), "the", ours().encode(" cat")).text, " cat");
}

TEST(StreamDecoder, RewrittenTextWaitsForTheEnd) {
  const auto tokenizer = denormalising();
  const auto all = stream(tokenizer, "", tokenizer.encode("one two three"));
  for (std::size_t i = 0; i + 1 < all.parts.size(); ++i) EXPECT_EQ(all.parts[i], "");
  EXPECT_EQ(all.text, tokenizer.decode(std::span<const std::int32_t>(tokenizer.encode("one two three"))));
}

TEST(StreamDecoder, PartsAddUpForAnyTokens) {
  const auto third = Tokenizer::load(FAIRWAY_SOURCE_DIR "/tests/trials/bos_is_3.model");
  const base::Random random(7, "streams");
  std::uint64_t draw = 0;
  for (const auto* tokenizer : {&sp1024(), &ours(), &third}) {
    for (int round = 0; round < 150; ++round) {
      std::vector<std::int32_t> ids;
      for (int i = 0; i < 24; ++i) {  // bytes often
        const auto rows = random.uniform(draw++) < 0.6 ? 260 : tokenizer->vocab_size();
        ids.push_back(static_cast<std::int32_t>(random.uniform(draw++) * rows));
      }
      stream(*tokenizer, round % 3 == 0 ? "" : round % 3 == 1 ? "The sea \xE2\x82\xAC" : "a  b ", ids);
      if (HasFailure()) return;
    }
  }
}

}  // namespace
}  // namespace fairway::text
