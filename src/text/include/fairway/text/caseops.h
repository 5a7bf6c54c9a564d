#pragma once
// The CaseOps transform (docs/spec/caseops_tokenizer.md sections 1 to 3): words in lower case behind
// operators that say how they were written. Only ASCII letters take part; every text comes back.

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fairway::text {

/// U+E001 to U+E006, in the order of their ids in a tokenizer.
enum class CaseOperator : std::uint8_t {
  title,        ///< the first letter of the word that follows is a capital
  all_caps,     ///< all of them are
  cap_next,     ///< the next letter is
  escape,       ///< the next character is meant as it is: written before an operator that the text itself has
  space_title,  ///< a space, then `title`: in spellings with fused markers only (U+E005)
  space_all_caps,  ///< a space, then `all_caps` (U+E006); `cap_next` never follows a space
};
constexpr int case_operator_count = 4;   ///< of spellings without fused markers
constexpr int fused_operator_count = 6;  ///< and with them

/// Whether a space and the operator of the word behind it are one character.
enum class Markers { apart, fused };
/// Its three bytes.
std::string_view case_operator_text(CaseOperator op);

/// Which one `text` is.
std::optional<CaseOperator> case_operator(std::string_view text);

/// `text` (any valid UTF-8) with operators. No two texts have the same result.
std::string caseops_encode(std::string_view text, Markers markers = Markers::apart);

/// The text behind `encoded`. Spellings that caseops_encode does not use are read where they mean something;
/// an unfinished or misplaced operator is an input error that names `what` and the byte.
std::string caseops_decode(std::string_view encoded, std::string_view what = "text",
                           Markers markers = Markers::apart);

/// The same for what a model made up: operators that stand where they mean nothing are left out. Never fails,
/// and the result of a beginning is a beginning of the result.
std::string caseops_decode_any(std::string_view encoded, Markers markers = Markers::apart);

/// Bytes of text that the first ends[i] bytes of `encoded` stand for, as caseops_decode_any reads them;
/// `ends` ascend and are at most encoded.size(). An operator (or a literal one) that an end cuts is read
/// whole.
std::vector<std::uint64_t> caseops_text_bytes(std::string_view encoded, std::span<const std::size_t> ends,
                                              Markers markers = Markers::apart);

}  // namespace fairway::text
