#include "fairway/text/byte_table.h"

#include "fairway/base/error.h"
#include "fairway/text/caseops.h"

namespace fairway::text {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";

/// What the published script counts for a piece (docs/spec/evaluation.md section 1): a leading space of its
/// own, the other bytes as they stand in the piece.
void published(const Tokenizer& tokenizer, std::int32_t id, ByteTable& table) {
  const auto i = static_cast<std::size_t>(id);
  const PieceKind kind = tokenizer.kind(id);
  if (kind == PieceKind::control || kind == PieceKind::unknown || kind == PieceKind::unused) return;
  table.bound[i] = 0;
  if (kind == PieceKind::byte) {
    table.base[i] = 1;
    return;
  }
  if (tokenizer.token_bytes(id).empty()) return;  // a case operator
  std::string_view piece = tokenizer.piece(id);
  if (piece.starts_with(kSpace)) {
    table.lead[i] = 1;
    piece.remove_prefix(kSpace.size());
  }
  table.base[i] = static_cast<std::uint16_t>(piece.size());
  if (has_case_operators(tokenizer.transform()) && case_operator(piece))  // fused: its space
    table.base[i] = static_cast<std::uint16_t>(tokenizer.token_bytes(id).size() - table.lead[i]);
}

/// What a piece is decoded to. A space at a text's start vanishes where the tokenizer strips it: the column
/// `lead`, which the token after a boundary does not get.
void decoded(const Tokenizer& tokenizer, std::int32_t id, ByteTable& table) {
  const auto i = static_cast<std::size_t>(id);
  const PieceKind kind = tokenizer.kind(id);
  if (kind == PieceKind::control) return;
  table.bound[i] = 0;
  const bool strips = tokenizer.strips_leading_space() && kind != PieceKind::unknown &&
                      tokenizer.piece(id).starts_with(kSpace);
  table.lead[i] = strips;
  table.base[i] = static_cast<std::uint16_t>(tokenizer.token_bytes(id).size() - (strips ? 1 : 0));
}

}  // namespace

std::vector<std::int32_t> ByteTable::counts(std::span<const std::uint16_t> tokens) const {
  std::vector<std::int32_t> result(tokens.size());
  bool escaped = !tokens.empty() && tokens[0] == escape;  // the token to come is meant as it is
  for (std::size_t i = 1; i < tokens.size(); ++i) {
    const bool meant = escaped && literal[tokens[i]] > 0;
    result[i] = static_cast<std::int32_t>(meant ? literal[tokens[i]] : count(tokens[i], tokens[i - 1]));
    escaped = !escaped && tokens[i] == escape;
  }
  return result;
}

ByteRule default_byte_rule(const Tokenizer& tokenizer) {
  if (tokenizer.lossless()) return ByteRule::exact;
  return has_case_operators(tokenizer.transform()) ? ByteRule::surface : ByteRule::challenge;
}

ByteTable make_byte_table(const Tokenizer& tokenizer, ByteRule rule, std::int32_t vocab_size) {
  base::check(rule != ByteRule::surface, "the byte rule 'surface' goes by the text, not by a table");
  if (vocab_size == 0) vocab_size = tokenizer.vocab_size();
  if (vocab_size < tokenizer.vocab_size())
    base::fail_input("a model vocabulary of {} is smaller than the tokenizer's {}", vocab_size,
                     tokenizer.vocab_size());
  ByteTable table;
  table.rule = rule;
  table.base.assign(static_cast<std::size_t>(vocab_size), 0);
  table.lead.assign(static_cast<std::size_t>(vocab_size), 0);
  table.bound.assign(static_cast<std::size_t>(vocab_size), 1);
  if (rule == ByteRule::exact && tokenizer.denormalises())
    base::fail_input(
        "the byte rule 'exact' does not work with this tokenizer: it changes the decoded text once more "
        "(a denormaliser); use score.rule = \"challenge\"");
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id)
    rule == ByteRule::challenge ? published(tokenizer, id, table) : decoded(tokenizer, id, table);
  if (rule == ByteRule::exact && has_case_operators(tokenizer.transform())) {
    table.literal.assign(static_cast<std::size_t>(vocab_size), 0);
    const bool fused = tokenizer.transform() == Transform::caseops_fused_lossless_v1;
    for (int i = 0; i < (fused ? fused_operator_count : case_operator_count); ++i) {
      const auto op = static_cast<CaseOperator>(i);
      const auto id = tokenizer.piece_id(case_operator_text(op));
      table.literal[static_cast<std::size_t>(id)] = static_cast<std::uint8_t>(case_operator_text(op).size());
      if (op == CaseOperator::escape) table.escape = id;
    }
  }
  return table;
}

}  // namespace fairway::text
