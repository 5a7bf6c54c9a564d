#pragma once
#include <numeric>
#include <string>
#include <vector>

#include "fairway/base/file.h"
#include "fairway/text/byte_table.h"
#include "fairway/text/tokenizer.h"
#include "fairway/text/train.h"
#include "support/corpus.h"
#include "support/errors.h"

namespace fairway::testing {

// Trained once on 200 kB of the demo text.
inline const text::Tokenizer& ours() {
  static const text::Tokenizer tokenizer =
      text::train_tokenizer({std::string_view(demo_text()).substr(0, 200'000)});
  return tokenizer;
}

/// Bytes that a table counts for a text behind the start of a document.
inline std::uint64_t counted(const text::Tokenizer& tokenizer, const text::ByteTable& table,
                             const std::string& text) {
  std::vector<std::uint16_t> ids = {static_cast<std::uint16_t>(tokenizer.bos_id())};
  tokenizer.encode(text, ids);
  const auto counts = table.counts(ids);
  return std::accumulate(counts.begin(), counts.end(), std::uint64_t{0});
}

}  // namespace fairway::testing
