#include <algorithm>

#include "fairway/text/tokenizer.h"

namespace fairway::text {
namespace {

// Greedy alignment: at a mismatch, the smallest shift after which `kAgree` bytes (or both ends) agree again.
// Not the shortest edit, but linear in time and the same everywhere.
constexpr std::size_t kAgree = 8;
constexpr std::size_t kReach = 96;

bool agree(std::string_view a, std::string_view b) {
  const std::size_t n = std::min({kAgree, a.size(), b.size()});
  return a.substr(0, n) == b.substr(0, n) && (n == kAgree || a.size() == b.size());
}

std::uint64_t changed_bytes(std::string_view a, std::string_view b) {
  std::uint64_t changed = 0;
  while (!a.empty() && !b.empty()) {
    if (a[0] == b[0]) {
      const auto [x, y] = std::mismatch(a.begin(), a.end(), b.begin(), b.end());
      a.remove_prefix(static_cast<std::size_t>(x - a.begin()));
      b.remove_prefix(static_cast<std::size_t>(y - b.begin()));
      continue;
    }
    std::size_t skip_a = 1, skip_b = 1;
    bool found = false;
    for (std::size_t sum = 1; sum <= kReach && !found; ++sum)
      for (std::size_t i = 0; i <= sum && !found; ++i) {
        const std::size_t j = sum - i;
        if (i > a.size() || j > b.size() || !agree(a.substr(i), b.substr(j))) continue;
        skip_a = i, skip_b = j, found = true;
      }
    changed += std::max(skip_a, skip_b);
    a.remove_prefix(skip_a);
    b.remove_prefix(skip_b);
  }
  return changed + a.size() + b.size();
}

}  // namespace

std::string_view hostile_text() {
  static constexpr char text[] =
      " a  b   c \xE2\x96\x81 \xE2\x96\x81\xE2\x96\x81x\xE2\x96\x85 \xE2\x81\x87 \t\t tab\r\n\n \r "
      "\v\f\x01\x7F\0 nul "
      "<s></s><unk><pad><0x41> <0xFF> 0123456789 don't -- \"quoted\" \\ / %s {} "
      "\xC2\xA0\xC2\xAD\xC2\xBD\xC3\x9F\xC5\xBF e\xCC\x81\xC3\xA9 \xD8\xA7\xD9\x84 \xE0\xB8\x81 "
      "\xE1\x84\x80\xE1\x85\xA1 "
      "\xE2\x80\x8B\xE2\x80\x8D\xE2\x80\xAE\xE2\x84\xA2\xE2\x80\xA6\xE3\x80\x80\xE6\xBC\xA2\xEF\xAC\x81\xEF"
      "\xBC\xA1\xEF\xBB\xBF\xEF\xBF\xBD\xEF\xBF\xBE"
      "\xEF\xBF\xBF\xF0\x9D\x84\x9E\xF0\x9F\x98\x80\xF0\x9F\x87\xAB\xF0\x9F\x87\xB7\xF4\x8F\xBF\xBF  ";
  return {text, sizeof text - 1};
}

void RoundTripReport::add(const Tokenizer& tokenizer, std::string_view document, std::string_view what) {
  add(document, tokenizer.decode(tokenizer.encode(document, what)));
}

void RoundTripReport::add(std::string_view document, std::string_view decoded) {
  ++documents;
  bytes += document.size();
  decoded_bytes += decoded.size();
  if (document == decoded) return;
  ++changed_documents;
  changed_bytes += text::changed_bytes(document, decoded);
}

}  // namespace fairway::text
