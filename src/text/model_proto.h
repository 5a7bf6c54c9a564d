#pragma once
// Our own reader of SentencePiece's ModelProto (sentencepiece_model.proto of google/sentencepiece, v0.1.97),
// for two reasons: SentencePiece trusts parts of a model it should not (it would index outside the character
// map), and we keep the name of our transform in the file.

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/text/tokenizer.h"

namespace fairway::text {

struct Piece {
  std::string text;
  float score = 0;
  PieceKind kind = PieceKind::normal;
};

struct NormalizerSpec {
  std::string name;
  std::string_view charsmap;  // points into the model's bytes; empty: identity
  bool add_dummy_prefix = true;
  bool remove_extra_whitespaces = true;
  bool escape_whitespaces = true;
};

struct ModelProto {
  std::vector<Piece> pieces;
  NormalizerSpec normalizer, denormalizer;
  std::int32_t model_type = 1;  // 1 unigram, 2 BPE
  bool byte_fallback = false;
  bool whitespace_as_suffix = false;
  std::string unknown_surface = " \xE2\x81\x87 ";  // what an unknown piece decodes to; the proto's default
  std::string transform;                           // empty: none
};

// ModelProto declares "extensions 200 to max", so every SentencePiece program skips this field.
inline constexpr std::uint32_t kTransformField = 1000;

// Parses and checks everything that SentencePiece takes on trust: piece count and sizes, UTF-8, kinds,
// uniqueness, the 256 byte pieces, and every offset of the character map. Throws input errors naming `name`.
ModelProto parse_model(std::span<const std::byte> bytes, const std::string& name);

// The field that names a transform, to be appended to a serialised model.
std::string transform_field(std::string_view transform);

}  // namespace fairway::text
