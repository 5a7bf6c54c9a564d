#pragma once
// Texts that tokenizers get wrong.

#include <string>
#include <vector>

#include "fairway/base/random.h"

namespace fairway::testing {

inline const std::vector<std::string>& nasty_strings() {
  using namespace std::string_literals;
  static const std::vector<std::string> strings = {" ",
                                                   "  ",
                                                   "   a",
                                                   "a   ",
                                                   "  a  b   c  ",
                                                   "\t",
                                                   "a\tb",
                                                   "\t\t x",
                                                   "\n",
                                                   "\n\n\n",
                                                   "a\nb",
                                                   "a\n\n  b\n",
                                                   "\r\n",
                                                   "a\r\nb\r\n",
                                                   "\r",
                                                   "\0"s,
                                                   "a\0b"s,
                                                   "\0\0 \0"s,
                                                   "\xE2\x96\x81",
                                                   "\xE2\x96\x81\xE2\x96\x81",
                                                   "a\xE2\x96\x81"
                                                   "b",
                                                   " \xE2\x96\x81 ",
                                                   "\xE2\x96\x81 a \xE2\x96\x81",
                                                   "\xE2\x96\x85",
                                                   "\xEF\xBF\xBD",
                                                   "a\xEF\xBF\xBD b",
                                                   "\xEF\xBB\xBF"
                                                   "bom",
                                                   "<s>",
                                                   "</s>",
                                                   "<unk>",
                                                   "<pad>",
                                                   "a<s>b",
                                                   "<0x41>",
                                                   "<0xE2><0x96><0x81>",
                                                   " \xE2\x81\x87 ",
                                                   "\xCD\xB8",
                                                   "\xF3\xA0\x80\x81",
                                                   "\xEE\x80\x81\xEE\x80\x82",
                                                   "\xF4\x8F\xBF\xBF",
                                                   "\xEF\xBF\xBF",
                                                   "\xEF\xB7\x90",
                                                   "\x7F",
                                                   "\x01\x02\x1F",
                                                   "e\xCC\x81 \xC3\xA9",
                                                   "\xEF\xAC\x81ne",
                                                   "\xC2\xA0",
                                                   "\xE3\x80\x80 wide",
                                                   "\xE2\x80\xA8\xE2\x80\xA9",
                                                   "\xE2\x80\x8B",
                                                   "\xF0\x9F\x91\xA9\xE2\x80\x8D\xF0\x9F\x91\xA9",
                                                   "123 4567",
                                                   "\xD9\xA1\xD9\xA2",
                                                   "\xEF\xBC\xA1\xEF\xBC\x91",
                                                   "THE the The",
                                                   "don\xE2\x80\x99t \xE2\x80\x94 \xE2\x80\x9Cso\xE2\x80\x9D",
                                                   "\xE6\xBC\xA2\xE5\xAD\x97",
                                                   std::string(5000, ' '),
                                                   std::string(5000, 'a'),
                                                   std::string(3000, '\n')};
  return strings;
}

inline void append_utf8(std::string& out, std::uint32_t c) {
  const auto put = [&](std::uint32_t byte) { out += static_cast<char>(byte); };
  if (c < 0x80) return put(c);
  if (c < 0x800) return put(0xC0 | c >> 6), put(0x80 | (c & 63));
  if (c < 0x10000) return put(0xE0 | c >> 12), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63));
  put(0xF0 | c >> 18), put(0x80 | (c >> 12 & 63)), put(0x80 | (c >> 6 & 63)), put(0x80 | (c & 63));
}

// Valid UTF-8 of 1 to 40 characters: words, white space, marks that tokenizers treat specially, any code
// point.
inline std::string random_text(std::uint64_t seed) {
  static const std::vector<std::string> parts = {
      " ",      "  ",   "\n",           "\t",           "\r\n",
      "the",    " the", "The",          "tion",         "ing ",
      ".",      ",",    "\xE2\x96\x81", "\xE2\x96\x85", "<s>",
      "<0x0A>", "1",    "2024",         "\xEF\xBF\xBD", std::string(1, '\0')};
  const base::Random random(seed, "test text");
  std::string out;
  const std::uint64_t length = 1 + random.below(0, 40);
  for (std::uint64_t i = 1; i <= length; ++i) {
    const std::uint64_t choice = random.below(4 * i, 10);
    if (choice < 6) {
      out += parts[random.below(4 * i + 1, parts.size())];
    } else if (choice < 8) {
      append_utf8(out, static_cast<std::uint32_t>(random.below(4 * i + 2, 128)));
    } else {
      auto c = static_cast<std::uint32_t>(random.below(4 * i + 2, choice == 8 ? 0x3000 : 0x110000));
      append_utf8(out, c >= 0xD800 && c < 0xE000 ? c - 0x1000 : c);
    }
  }
  return out;
}

}  // namespace fairway::testing
