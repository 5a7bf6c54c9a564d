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
