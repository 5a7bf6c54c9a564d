#pragma once
// SentencePiece models made by hand, to be as odd as the format allows.

#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <utility>
#include <vector>

#include "fairway/text/tokenizer.h"

namespace fairway::testing {

/// Fields of sentencepiece_model.proto (v0.1.97) that change what is encoded or decoded.
struct SentencePieceModel {
  std::vector<std::pair<std::string, text::PieceKind>> pieces;  ///< <unk> and <s> come first by themselves
  bool bpe = false, byte_fallback = false, dummy_prefix = true, remove_extra_spaces = true;
  bool whitespace_as_suffix = false;
  std::string unknown_surface = " \xE2\x81\x87 ";
  std::string transform;  ///< ours: field 1000

  std::string bytes() const {
    std::string model;
    float score = 0;
    piece(model, "<unk>", text::PieceKind::unknown, 0);
    piece(model, "<s>", text::PieceKind::control, 0);
    for (const auto& [text, kind] : pieces) piece(model, text, kind, score -= 0.5f);
    if (byte_fallback)
      for (int b = 0; b < 256; ++b) {
        static constexpr char digits[] = "0123456789ABCDEF";
        piece(model, std::string("<0x") + digits[b / 16] + digits[b % 16] + ">", text::PieceKind::byte, 0);
      }
    std::string trainer;
    number(trainer, 3, bpe ? 2 : 1);
    number(trainer, 24, whitespace_as_suffix);
    number(trainer, 35, byte_fallback);
    number(trainer, 40, 0), number(trainer, 41, 1), number(trainer, 42, ~std::uint64_t{0}),
        number(trainer, 43, ~std::uint64_t{0});
    string(trainer, 44, unknown_surface);
    string(model, 2, trainer);
    std::string normalizer;
    string(normalizer, 1, "identity");
    number(normalizer, 3, dummy_prefix);
    number(normalizer, 4, remove_extra_spaces);
    number(normalizer, 5, 1);
    string(model, 3, normalizer);
    if (!transform.empty()) string(model, 1000, transform);
    return model;
  }
  text::Tokenizer load() const {
    const auto model = bytes();
    return text::Tokenizer::from_bytes(std::as_bytes(std::span(model.data(), model.size())), "made by hand");
  }

 private:
  static void varint(std::string& out, std::uint64_t value) {
    for (; value >= 0x80; value >>= 7) out += static_cast<char>(value | 0x80);
    out += static_cast<char>(value);
  }
  static void number(std::string& out, std::uint32_t field, std::uint64_t value) {
    varint(out, field << 3);
    varint(out, value);
  }
  static void string(std::string& out, std::uint32_t field, const std::string& value) {
    varint(out, field << 3 | 2);
    varint(out, value.size());
    out += value;
  }
  static void piece(std::string& model, const std::string& text, text::PieceKind kind, float score) {
    std::string body;
    string(body, 1, text);
    varint(body, 2 << 3 | 5);
    body.append(reinterpret_cast<const char*>(&score), sizeof score);
    number(body, 3, static_cast<std::uint64_t>(kind));
    string(model, 1, body);
  }
};

}  // namespace fairway::testing
