#include <gtest/gtest.h>
#include <sentencepiece_processor.h>

#include "fairway/text/caseops.h"
#include "strings.h"
#include "support.h"

namespace fairway::text {
namespace {

using testing::data_path;

// Our encoder against SentencePiece itself, for the published models and ours.
class SameIdsAsSentencePiece : public ::testing::Test {
 protected:
  static void compare(const Tokenizer& tokenizer, const std::string& name) {
    sentencepiece::SentencePieceProcessor plain;
    const auto bytes = tokenizer.model_bytes();
    ASSERT_TRUE(
        plain.LoadFromSerializedProto({reinterpret_cast<const char*>(bytes.data()), bytes.size()}).ok());
    const auto same = [&](const std::string& text) {
      if (tokenizer.lossless() && text.find("\xE2\x96\x81") != std::string::npos) return;
      const bool spelled = has_case_operators(tokenizer.transform());
      ASSERT_EQ(tokenizer.encode(text), plain.EncodeAsIds(spelled ? caseops_encode(text) : text))
          << name << " " << ::testing::PrintToString(text.substr(0, 80));
    };
    for (const std::string& text : testing::nasty_strings()) same(text);
    // Two characters that the normaliser joins, and with a third that it joins too: the longest counts.
    for (const char* text : {"\xE1\x84\x80\xE1\x85\xA1", "\xE1\x84\x80\xE1\x85\xA1\xE1\x86\xA8",
                             "s\xCC\xA3 s\xCC\xA3\xCC\x87", "a\xCC\x82\xCC\x81z"})
      same(text);
    for (std::uint64_t seed = 0; seed < 2000; ++seed) same(testing::random_text(seed));
    for (std::size_t at = 0; at + 4000 < 200'000; at += 4000)
      same(testing::demo_text().substr(at, 4000 - 200));
    // Every code point beside a letter, a space and itself: the whole normaliser.
    std::string all;
    for (std::uint32_t c = 1; c < 0x20000; ++c) {
      if (c >= 0xD800 && c < 0xE000) continue;
      all += 'e';
      testing::append_utf8(all, c);
      all += ' ';
      testing::append_utf8(all, c);
      testing::append_utf8(all, c);
      if (c % 1024 != 1023) continue;
      same(all);
      all.clear();
    }
  }
};

TEST_F(SameIdsAsSentencePiece, Ours) { compare(testing::ours(), "ours"); }
TEST_F(SameIdsAsSentencePiece, Sp1024) { compare(testing::sp1024(), "sp1024"); }
TEST_F(SameIdsAsSentencePiece, Sp4096) {
  compare(Tokenizer::load(data_path("tokenizers/fineweb_4096_bpe.model")), "sp4096");
}
TEST_F(SameIdsAsSentencePiece, Sp8192) {
  compare(Tokenizer::load(data_path("tokenizers/fineweb_8192_bpe.model")), "sp8192");
}

TEST_F(SameIdsAsSentencePiece, CaseOps) {
  for (const char* name : {"fineweb_8192_bpe_lossless_caps_caseops_v1_reserved.model",
                           "fineweb_10240_bpe_lossless_caps_caseops_v1_identity.model"})
    compare(Tokenizer::load(data_path(std::string("tokenizers/") + name)), name);
}

}  // namespace
}  // namespace fairway::text
