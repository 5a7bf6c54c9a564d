#pragma once
// How many bytes of text a token stands for (docs/spec/evaluation.md section 1; docs/data.md).

#include <cstdint>
#include <span>
#include <vector>

#include "fairway/base/enum_names.h"
#include "fairway/text/tokenizer.h"

namespace fairway::text {

enum class ByteRule {
  challenge,  ///< the published table, to the byte
  exact,      ///< the bytes each token adds to the decoded text
  surface,  ///< the bytes of the text that each token was made of (Tokenizer::surface_bytes): no table has it
};
constexpr auto names_of(ByteRule) { return base::names<ByteRule>("challenge", "exact", "surface"); }
/// The rule that makes a tokenizer's score honest: exact for lossless tokenizers, surface for published ones
/// with case operators, challenge for other published ones.
ByteRule default_byte_rule(const Tokenizer& tokenizer);

/// Bytes of token `target` after token `previous` (the input at the same position):
///   count = base[target] + lead[target] * (1 - bound[previous])
/// and, by `exact`, the bytes of a case operator that the text itself has, which an escape stands before.
/// `challenge` is the table of docs/spec/evaluation.md. `exact` differs where a piece holds U+2581 beyond its
/// first character (one byte each, not three), for unknown pieces (the surface that they decode to, not
/// nothing) and, for tokenizers that keep leading spaces, right after BOS (the space is counted). For a
/// document encoded by the tokenizer, the exact counts sum to the bytes of its decoded text, and with a
/// lossless tokenizer to the bytes of the document.
struct ByteTable {
  ByteRule rule = ByteRule::challenge;
  std::vector<std::uint16_t> base;  ///< [vocab] bytes without a leading space
  std::vector<std::uint8_t> lead;   ///< [vocab] 1: one more byte unless the previous token is a boundary
  std::vector<std::uint8_t> bound;  ///< [vocab] 1: control, unknown, unused, or beyond the tokenizer

  std::vector<std::uint8_t> literal;  ///< [vocab] or empty: bytes of a case operator that is escaped
  std::int64_t escape = -1;           ///< the token that escapes the next one

  std::uint32_t count(std::uint32_t target, std::uint32_t previous) const noexcept {
    return base[target] + static_cast<std::uint32_t>(lead[target] & (1 - bound[previous]));
  }
  /// Of every token of a sequence; of the first 0, for nothing predicts it.
  std::vector<std::int32_t> counts(std::span<const std::uint16_t> tokens) const;
  std::int32_t vocab_size() const noexcept { return static_cast<std::int32_t>(base.size()); }
};

/// `vocab_size`: rows of the model's table when it is larger than the tokenizer's (0: the tokenizer's). An
/// input error for a smaller one, and for `exact` with a tokenizer that denormalises. Not for `surface`.
ByteTable make_byte_table(const Tokenizer& tokenizer, ByteRule rule, std::int32_t vocab_size = 0);

}  // namespace fairway::text
