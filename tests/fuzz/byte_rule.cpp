// Any SentencePiece model and any text: no score is valid that counts more bytes than the text has. The input
// is a model, then a text, then two bytes with the text's length.
#include <algorithm>
#include <cstdint>
#include <cstdlib>
#include <string_view>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/base/text.h"
#include "fairway/score/ledger.h"
#include "fairway/text/byte_table.h"
#include "fairway/text/tokenizer.h"

namespace {

using namespace fairway;

void expect(bool holds) {
  if (!holds) std::abort();
}

/// Of each id, behind the start of a document.
std::vector<std::int32_t> counts_of(const text::Tokenizer& tokenizer, text::ByteRule rule,
                                    std::string_view document, const std::vector<std::uint16_t>& ids) {
  if (rule == text::ByteRule::surface) {
    const auto counts = tokenizer.surface_bytes(document, ids);
    return {counts.begin(), counts.end()};
  }
  std::vector<std::uint16_t> behind_start = {0};
  behind_start.insert(behind_start.end(), ids.begin(), ids.end());
  auto counts = text::make_byte_table(tokenizer, rule).counts(behind_start);
  counts.erase(counts.begin());
  return counts;
}

void check(const text::Tokenizer& tokenizer, text::ByteRule rule, std::string_view document) {
  std::vector<std::uint16_t> ids;
  tokenizer.encode(document, ids);
  const auto counts = counts_of(tokenizer, rule, document, ids);
  std::int64_t counted = 0;
  std::uint64_t behind = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    counted += counts[i];
    const auto bytes = tokenizer.source_bytes(document, std::span(ids).first(i + 1));
    expect(bytes >= behind && bytes <= document.size());
    behind = bytes;
    if (rule == text::ByteRule::surface) expect(bytes >= static_cast<std::uint64_t>(counted));
    if (tokenizer.lossless() && rule != text::ByteRule::challenge)
      expect(bytes == static_cast<std::uint64_t>(counted));
  }
  score::ScoreLedger ledger({.targets = std::ssize(ids), .text = {{{0, std::ssize(document)}}}});
  const std::vector<float> nll(ids.size(), 1.0f);
  ledger.commit(0, nll, counts);
  expect(ledger.verdict().valid() == (counted <= std::ssize(document)));
  if (rule == text::ByteRule::surface) expect(counted <= std::ssize(document));
  if (!tokenizer.lossless()) return;
  expect(tokenizer.decode(std::span<const std::uint16_t>(ids)) == document);
  if (rule != text::ByteRule::challenge) expect(counted == std::ssize(document));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
  if (size < 2) return 0;
  const std::size_t length = std::min<std::size_t>(data[size - 2] | data[size - 1] << 8, size - 2) % 512;
  const std::string_view document(reinterpret_cast<const char*>(data) + size - 2 - length, length);
  if (document.empty() || base::invalid_utf8_at(document)) return 0;
  try {
    const auto tokenizer = text::Tokenizer::from_bytes(
        {reinterpret_cast<const std::byte*>(data), size - 2 - length}, "fuzz.model");
    check(tokenizer, text::ByteRule::challenge, document);
    check(tokenizer, text::ByteRule::surface, document);
    check(tokenizer, text::ByteRule::exact, document);
  } catch (const base::Error& error) {
    if (error.kind() != base::ErrorKind::input) throw;
  }
  return 0;
}
