#include "fairway/base/text.h"

#include "fairway/base/clock.h"
#include "fairway/base/cpu.h"
#include "fairway/base/error.h"
#include "fairway/base/hash.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <regex>
#include <vector>

namespace fairway::base {
namespace {

using testing::HasSubstr;

std::optional<std::size_t> invalid(std::string_view text) { return invalid_utf8_at(text); }

TEST(Utf8, Valid) {
  EXPECT_EQ(invalid(""), std::nullopt);
  EXPECT_EQ(invalid(std::string_view("a\0b", 3)), std::nullopt);
  EXPECT_EQ(invalid("\x7f \xc2\x80 \xdf\xbf \xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf"),
            std::nullopt);
  EXPECT_EQ(invalid("\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf"), std::nullopt);
}

TEST(Utf8, PrintableKeepsWhatIsValidAndShowsTheBytes) {
  EXPECT_EQ(printable("caf\xc3\xa9 \xe2\x98\x83"), "caf\xc3\xa9 \xe2\x98\x83");
  EXPECT_EQ(printable("caf\xe9.txt\xff"), "caf\\xE9.txt\\xFF");
  EXPECT_EQ(printable(""), "");
}

TEST(Utf8, InvalidSaysWhere) {
  EXPECT_EQ(invalid("ab\x80"), 2u);             // a tail alone
  EXPECT_EQ(invalid("ab\xc0\x80"), 2u);         // overlong, two bytes
  EXPECT_EQ(invalid("\xc1\xbf"), 0u);           //
  EXPECT_EQ(invalid("\xe0\x9f\xbf"), 0u);       // overlong, three bytes
  EXPECT_EQ(invalid("\xf0\x8f\xbf\xbf"), 0u);   // overlong, four bytes
  EXPECT_EQ(invalid("x\xed\xa0\x80"), 1u);      // first surrogate
  EXPECT_EQ(invalid("x\xed\xbf\xbf"), 1u);      // last surrogate
  EXPECT_EQ(invalid("\xf4\x90\x80\x80"), 0u);   // U+110000
  EXPECT_EQ(invalid("\xf5\x80\x80\x80"), 0u);   //
  EXPECT_EQ(invalid("\xff"), 0u);               //
  EXPECT_EQ(invalid("abc\xc3"), 3u);            // truncated
  EXPECT_EQ(invalid("abc\xe2\x82"), 3u);        //
  EXPECT_EQ(invalid("abc\xf0\x9f\x98"), 3u);    //
  EXPECT_EQ(invalid("\xe2\x82Z"), 0u);          // a tail is missing in the middle
  EXPECT_EQ(invalid("ok \xc3\xa4 \xc3("), 6u);  //
}

// Every code point, encoded by the rule of RFC 3629, is valid except the surrogates.
TEST(Utf8, AllCodePoints) {
  for (std::uint32_t c = 0; c < 0x110000; ++c) {
    char text[4];
    std::size_t length = 0;
    const auto put = [&](std::uint32_t byte) { text[length++] = static_cast<char>(byte); };
    if (c < 0x80) {
      put(c);
    } else if (c < 0x800) {
      put(0xC0 | c >> 6), put(0x80 | (c & 63));
    } else if (c < 0x10000) {
      put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63));
    } else {
      put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 63)), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63));
    }
    const bool surrogate = c >= 0xD800 && c < 0xE000;
    ASSERT_EQ(invalid({text, length}).has_value(), surrogate) << std::hex << c;
  }
}

TEST(Suggestion, FindsTypos) {
  const std::vector<std::string> keys = {"model.layers", "model.heads", "train.steps", "lr"};
  EXPECT_EQ(closest_match("model.layres", keys), "model.layers");
  EXPECT_EQ(closest_match("model.head", keys), "model.heads");
  EXPECT_EQ(closest_match("train.steps", keys), "train.steps");
  EXPECT_EQ(closest_match("quantisation", keys), "");
  EXPECT_EQ(closest_match("x", keys), "");
  EXPECT_EQ(did_you_mean("trian.steps", keys), " (did you mean 'train.steps'?)");
  EXPECT_EQ(did_you_mean("quantisation", keys), "");
  EXPECT_EQ(did_you_mean("a", {}), "");
}

TEST(Numbers, ForPeople) {
  EXPECT_EQ(with_commas(0), "0");
  EXPECT_EQ(with_commas(999), "999");
  EXPECT_EQ(with_commas(1000), "1,000");
  EXPECT_EQ(with_commas(12345678), "12,345,678");
  EXPECT_EQ(with_commas(-123456), "-123,456");
  EXPECT_EQ(with_commas(INT64_MIN), "-9,223,372,036,854,775,808");
  EXPECT_EQ(human_bytes(1023), "1023 B");
  EXPECT_EQ(human_bytes(1536), "1.5 KiB");
  EXPECT_EQ(human_bytes((1u << 20) - 1), "1.0 MiB");
  EXPECT_EQ(human_bytes(UINT64_MAX), "16.0 EiB");
  EXPECT_EQ(human_seconds(0.42), "0.4s");
  EXPECT_EQ(human_seconds(9.97), "10s");
  EXPECT_EQ(human_seconds(59.4), "59s");
  EXPECT_EQ(human_seconds(59.6), "1m00s");
  EXPECT_EQ(human_seconds(65), "1m05s");
  EXPECT_EQ(human_seconds(3599.7), "1h00m");
  EXPECT_EQ(human_seconds(7380), "2h03m");
  EXPECT_EQ(human_seconds(-65), "-1m05s");
  EXPECT_EQ(human_seconds(NAN), "?");
}

// XXH3's own values (xxhash 0.8: `printf '' | xxhsum -H3` and so on): our files depend on them.
TEST(Hash, IsXxh3) {
  EXPECT_EQ(hash64(""), 0x2d06800538d394c2u);
  EXPECT_EQ(hex64(hash64("")), "2d06800538d394c2");
  EXPECT_EQ(hex64(0x1f), "000000000000001f");
  EXPECT_NE(hash64("a"), hash64("b"));
  EXPECT_NE(hash64("a"), hash64("a", 1));
  EXPECT_EQ(hash64("abc"), hash64(std::as_bytes(std::span("abc", 3))));
}

TEST(Errors, SayWhatAndWhere) {
  try {
    check(1 + 1 == 3, "sum is {}", 1 + 1);
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::failure);
    EXPECT_THAT(error.what(), HasSubstr("sum is 2 (text_test.cpp:"));
  }
  EXPECT_NO_THROW(check(true, "never {}", 1));
  try {
    fail_input("{}: bad", "a.toml");
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_STREQ(error.what(), "a.toml: bad");
  }
}

TEST(Cpu, NamesRoundTrip) {
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512_bf16})
    EXPECT_EQ(parse_isa(isa_name(isa)), isa);
  EXPECT_EQ(parse_isa("sse9"), std::nullopt);
  EXPECT_FALSE(isa_name(best_isa()).empty());
  EXPECT_FALSE(cpu_model().empty());
}

TEST(Clock, TellsTimeAndMemory) {
  EXPECT_TRUE(std::regex_match(utc_timestamp(), std::regex(R"(\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ)")));
  const auto before = peak_memory_bytes();
  std::vector<char> large(std::size_t{64} << 20, 'x');
  EXPECT_GE(peak_memory_bytes(), large.size());
  EXPECT_GE(peak_memory_bytes(), before);
  const Stopwatch watch;
  EXPECT_GE(watch.seconds(), 0.0);
}

}  // namespace
}  // namespace fairway::base
