#include "fairway/text/byte_table.h"

#include "fairway/base/error.h"

namespace fairway::text {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";
// What SentencePiece decodes an unknown piece to (TrainerSpec.unk_surface's default, " ⁇ ").
constexpr std::uint16_t kUnknownSurfaceBytes = 5;

std::size_t count_spaces(std::string_view piece) {
  std::size_t spaces = 0;
  for (std::size_t at = piece.find(kSpace); at != std::string_view::npos;
       at = piece.find(kSpace, at + kSpace.size()))
    ++spaces;
  return spaces;
}

}  // namespace

std::string_view byte_rule_name(ByteRule rule) { return rule == ByteRule::challenge ? "challenge" : "exact"; }

std::optional<ByteRule> parse_byte_rule(std::string_view name) {
  if (name == "challenge") return ByteRule::challenge;
  if (name == "exact") return ByteRule::exact;
  return std::nullopt;
}

ByteRule default_byte_rule(const Tokenizer& tokenizer) {
  return tokenizer.lossless() ? ByteRule::exact : ByteRule::challenge;
}

ByteTable make_byte_table(const Tokenizer& tokenizer, ByteRule rule, std::int32_t vocab_size) {
  if (vocab_size == 0) vocab_size = tokenizer.vocab_size();
  if (vocab_size < tokenizer.vocab_size())
    base::fail_input("a model vocabulary of {} is smaller than the tokenizer's {}", vocab_size,
                     tokenizer.vocab_size());
  ByteTable table;
  table.rule = rule;
  table.base.assign(static_cast<std::size_t>(vocab_size), 0);
  table.lead.assign(static_cast<std::size_t>(vocab_size), 0);
  table.bound.assign(static_cast<std::size_t>(vocab_size), 1);
  for (std::int32_t id = 0; id < tokenizer.vocab_size(); ++id) {
    const auto i = static_cast<std::size_t>(id);
    const PieceKind kind = tokenizer.kind(id);
    if (kind == PieceKind::unknown && rule == ByteRule::exact) {
      table.base[i] = kUnknownSurfaceBytes;
      table.bound[i] = 0;
    }
    if (kind == PieceKind::control || kind == PieceKind::unknown ||
        (kind == PieceKind::unused && rule == ByteRule::challenge))
      continue;
    table.bound[i] = 0;
    if (kind == PieceKind::byte) {
      table.base[i] = 1;
      continue;
    }
    std::string_view piece = tokenizer.piece(id);
    // A space that is decoded wherever it stands needs no second column; one that vanishes at the start does.
    if (piece.starts_with(kSpace) && (rule == ByteRule::challenge || tokenizer.strips_leading_space())) {
      table.lead[i] = 1;
      piece.remove_prefix(kSpace.size());
    }
    const std::size_t spaces = rule == ByteRule::exact ? count_spaces(piece) : 0;
    table.base[i] = static_cast<std::uint16_t>(piece.size() - spaces * (kSpace.size() - 1));
  }
  return table;
}

}  // namespace fairway::text
