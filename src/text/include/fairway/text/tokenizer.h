#pragma once
// Text to token ids and back: a SentencePiece model plus a named transform of ours.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/text/marker_fusion.h"

namespace fairway::text {

/// What is done around SentencePiece. The name is kept with the tokenizer and wherever it is embedded.
enum class Transform {
  none,         ///< the model exactly as SentencePiece runs it (all published tokenizers)
  lossless_v1,  ///< literal U+2581 goes in as its three byte pieces, so that it does not come back as a space
  caseops,      ///< words in lower case behind operators (text/caseops.h), then the model as it is: published
  caseops_lossless_v1,  ///< both: the operators, and U+2581 as bytes
  /// A published CaseOps model whose lone spaces are one token with the operator behind them
  /// (text/marker_fusion.h): byte pieces that no text has any more, for U+0000 to U+0002 become spaces.
  caseops_fused,
  caseops_fused_lossless_v1,  ///< caseops_lossless_v1 with operators that hold the space before them
};
std::string_view transform_name(Transform transform);  ///< "none", "lossless_v1", "caseops", ...
/// The text is spelled with case operators.
constexpr bool has_case_operators(Transform t) { return t != Transform::none && t != Transform::lossless_v1; }
constexpr bool has_fused_markers(Transform t) {
  return t == Transform::caseops_fused || t == Transform::caseops_fused_lossless_v1;
}
/// Nothing of a text is lost on the way in.
constexpr bool keeps_all(Transform t) {
  return t == Transform::lossless_v1 || t == Transform::caseops_lossless_v1 ||
         t == Transform::caseops_fused_lossless_v1;
}
std::optional<Transform> parse_transform(std::string_view name);  ///< nothing for an unknown name

/// What an id stands for; the numbers are those of sentencepiece_model.proto.
enum class PieceKind : std::uint8_t {
  normal = 1,
  unknown = 2,
  control = 3,
  user_defined = 4,
  unused = 5,
  byte = 6
};

/// A loaded tokenizer. Cheap to copy (shared, immutable); every member is const and safe to call from many
/// threads.
class Tokenizer {
 public:
  /// Parses a SentencePiece `.model`; `name` stands in error messages. The bytes may be hostile: everything
  /// SentencePiece would trust is checked first. Throws an input error in one line.
  /// `plain`: a published CaseOps model is run as it is, on text as it stands (Transform::none), as files
  /// from before the transform was known here have it.
  static Tokenizer from_bytes(std::span<const std::byte> model, const std::string& name = "tokenizer",
                              bool plain = false);
  static Tokenizer load(const std::filesystem::path& path);

  /// This published CaseOps model with fused markers (Transform::caseops_fused), its bytes with the
  /// transform's name; a tokenizer that has them is given back. Others are an input error.
  Tokenizer with_fused_markers() const;

  /// Appends the ids of `text` (no BOS). Throws an input error that names `what` when the text is empty or
  /// not valid UTF-8 (with the byte's position), and for ids over 65,535 with 16-bit output.
  void encode(std::string_view text, std::vector<std::uint16_t>& out, std::string_view what = "text") const;
  void encode(std::string_view text, std::vector<std::int32_t>& out, std::string_view what = "text") const;
  std::vector<std::int32_t> encode(std::string_view text, std::string_view what = "text") const;

  /// The text the ids stand for. Control ids (BOS) give nothing. Byte pieces that do not form UTF-8:
  /// published tokenizers give U+FFFD for them, as SentencePiece does; with lossless_v1 the raw bytes are
  /// kept. Throws an input error for an id outside the vocabulary, and, where the transform
  /// keeps_all, for case operators that mean nothing where they stand (text/caseops.h); decode_any leaves
  /// these out, as what a model makes up may have them.
  std::string decode(std::span<const std::int32_t> ids) const;
  std::string decode(std::span<const std::uint16_t> ids) const;
  std::string decode_any(std::span<const std::int32_t> ids) const;
  std::string decode_any(std::span<const std::uint16_t> ids) const;

  /// Bytes of `document` that the first ids of its encoding stand for, by SentencePiece's alignment of
  /// normalised and original text: at most document.size(). Ids that are not its encoding stand for what
  /// they have in common with its beginning.
  std::uint64_t source_bytes(std::string_view document, std::span<const std::uint16_t> ids) const;

  /// Bytes of `document` that each of `ids`, its encoding, stands for: those of the piece's surface, the
  /// slice of the text that SentencePiece's alignment assigns to it, without case operators that the text
  /// itself does not have (docs/spec/caseops_tokenizer.md section 6.1). A character of several pieces counts
  /// with the last of them, white space with the piece that its run became (at both ends of a document with
  /// none), a character without a piece not at all; at most 65,535 for each. They sum to at most
  /// document.size(). Ids that are not its encoding are a failure. Encodes the document again, by
  /// SentencePiece.
  std::vector<std::uint16_t> surface_bytes(std::string_view document,
                                           std::span<const std::uint16_t> ids) const;

  std::int32_t vocab_size() const noexcept;
  std::int32_t bos_id() const noexcept;  ///< the piece "<s>" (or the model's own BOS); -1: the model has none
  const std::string& piece(std::int32_t id) const;
  PieceKind kind(std::int32_t id) const;
  /// The bytes an id adds to a text (not at its start): spaces as spaces, a byte piece as its byte, the
  /// unknown piece its surface, control ids and case operators nothing.
  const std::string& token_bytes(std::int32_t id) const;
  std::int32_t piece_id(std::string_view piece) const;  ///< -1: no such piece
  Transform transform() const noexcept;
  /// The tokens of Transform::caseops_fused; null: of another transform.
  const MarkerFusion* marker_fusion() const noexcept;
  bool byte_fallback() const noexcept;  ///< all 256 byte pieces are there: nothing is unknown
  /// decode(encode(t)) == t for every valid UTF-8 text. Found out, not believed: the model's transform
  /// keeps_all, its normalisation is the identity, and hostile_text() comes back (it does not
  /// where a vocabulary lacks the space).
  bool lossless() const noexcept;
  /// SentencePiece maps characters of the decoded text once more (a denormaliser): what a token adds to a
  /// text cannot be told from the token.
  bool denormalises() const noexcept;
  /// SentencePiece drops white space at the start of a decoded text (dummy prefix or extra white space
  /// removal).
  bool strips_leading_space() const noexcept;
  std::span<const std::byte> model_bytes() const noexcept;  ///< the `.model` file, for embedding in artifacts
  std::uint64_t fingerprint() const noexcept;               ///< base::hash64 of model_bytes()

 private:
  struct Impl;
  explicit Tokenizer(std::shared_ptr<const Impl> impl) : impl_(std::move(impl)) {}
  template <class Id>
  void encode_to(std::string_view text, std::vector<Id>& out, std::string_view what) const;
  template <class Id>
  std::string pieces_text(std::span<const Id> ids) const;
  template <class Id>
  std::string decode_from(std::span<const Id> ids, bool strict) const;
  std::shared_ptr<const Impl> impl_;
};

/// Text of everything that has ever been lost on the way through a tokenizer: runs of spaces, U+2581 itself,
/// control characters, pieces' names, characters outside the basic plane, what NFKC changes.
std::string_view hostile_text();

/// What decode(encode(t)) changes: for published tokenizers, whose normalisation is not the identity.
struct RoundTripReport {
  std::uint64_t documents = 0, changed_documents = 0;
  std::uint64_t bytes = 0;          ///< of the original documents
  std::uint64_t decoded_bytes = 0;  ///< of decode(encode(document))
  std::uint64_t changed_bytes =
      0;  ///< bytes of the original that differ or are gone, plus bytes that appear (greedy alignment)
  void add(const Tokenizer& tokenizer, std::string_view document, std::string_view what = "text");
  /// The same where the ids are already known.
  void add(std::string_view document, std::string_view decoded);
};

}  // namespace fairway::text
