#pragma once
// What a loaded tokenizer holds: for the files of this layer that work on it.

#include <sentencepiece_processor.h>

#include <array>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <unordered_map>
#include <vector>

#include "bpe_encoder.h"
#include "fairway/text/caseops.h"
#include "fairway/text/tokenizer.h"
#include "model_proto.h"

namespace fairway::text {

constexpr std::size_t first_operator = 4;  // its id

/// Pieces from there on that are case operators.
constexpr int operator_count(Transform t) {
  return !has_case_operators(t)                      ? 0
         : t == Transform::caseops_fused_lossless_v1 ? fused_operator_count
                                                     : case_operator_count;
}
/// How texts are spelled.
constexpr Markers markers_of(Transform t) {
  return t == Transform::caseops_fused_lossless_v1 ? Markers::fused : Markers::apart;
}

struct Tokenizer::Impl {
  std::vector<std::byte> bytes;
  std::uint64_t fingerprint = 0;
  ModelProto model;
  sentencepiece::SentencePieceProcessor processor;
  std::unique_ptr<const BpeEncoder>
      bpe;  // where it gives SentencePiece's ids; nothing: SentencePiece encodes
  Transform transform = Transform::none;
  std::int32_t bos = -1;
  bool lossless = false;
  std::unordered_map<std::string_view, std::int32_t> ids;
  std::array<std::int32_t, 256> byte_ids{};
  std::vector<std::string> decoded;    // what each id adds to the text
  std::optional<MarkerFusion> fusion;  // of Transform::caseops_fused

  void load(const std::string& name);
  void fuse_markers(const std::string& name);
  void index();
  bool is_case_operator(std::size_t id) const {
    return id - first_operator < static_cast<std::size_t>(operator_count(transform));
  }
  /// What a piece says in the transformed text.
  const std::string& spelling(std::size_t id) const {
    return is_case_operator(id) ? model.pieces[id].text : decoded[id];
  }
  /// Ids of SentencePiece.
  template <class To, class Id>
  std::vector<To> apart(std::span<const Id> all) const {
    return fusion ? fusion->part<To>(all) : std::vector<To>(all.begin(), all.end());
  }
  std::string original(std::string_view spelling) const {
    return has_case_operators(transform) ? caseops_decode_any(spelling, markers_of(transform))
                                         : std::string(spelling);
  }
  /// The text that SentencePiece is given; `buffer` holds it where it is not `text` itself.
  std::string_view spelled(std::string_view text, std::string& buffer) const;
  std::vector<std::uint64_t> text_bytes(std::string_view spelled, std::span<const std::size_t> ends) const;
  template <class Id>
  void encode_plain(std::string_view text, std::vector<Id>& out, std::string_view what) const;
};

}  // namespace fairway::text
