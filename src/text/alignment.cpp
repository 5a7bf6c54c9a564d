// Which bytes of a document its tokens stand for, by SentencePiece's alignment of normalised and original
// text (docs/spec/caseops_tokenizer.md section 6.1).

#include <algorithm>
#include <limits>

#include "fairway/base/error.h"
#include "fairway/text/caseops.h"
#include "fairway/text/tokenizer.h"
#include "tokenizer_impl.h"

namespace fairway::text {
namespace {

/// A part of the spelled text; empty: nothing of it.
struct Slice {
  std::size_t begin = 0, end = 0;
};

/// The pieces' slices in order, none before the end of another: what SentencePiece assigns to them. Unknown
/// pieces have none, for they do not say what they stand for. Nothing when `ids` are not the first ones of
/// the encoding.
std::optional<std::vector<Slice>> aligned(const sentencepiece::SentencePieceProcessor& processor,
                                          std::string_view spelled, std::span<const std::uint16_t> ids) {
  const auto encoded = processor.EncodeAsImmutableProto(spelled);
  if (encoded.pieces_size() < ids.size()) return std::nullopt;
  std::vector<Slice> slices;
  slices.reserve(ids.size());
  std::size_t last = 0;
  for (std::size_t i = 0; i < ids.size(); ++i) {
    const auto piece = encoded.pieces(static_cast<int>(i));
    if (piece.id() != ids[i]) return std::nullopt;
    const std::size_t begin = std::clamp<std::size_t>(piece.begin(), last, spelled.size());
    last = std::clamp<std::size_t>(piece.end(), begin, spelled.size());
    slices.push_back({begin, processor.IsUnknown(static_cast<int>(piece.id())) ? begin : last});
  }
  return slices;
}

/// Where the pieces end in the spelled text. A character that several pieces share (bytes, or what ½ is
/// normalised to) belongs to the last of them; up to there each piece has a byte of it for each of its own
/// (`decoded`), as far as the character goes.
std::size_t aligned_end(std::string_view spelled, std::span<const Slice> slices,
                        std::span<const std::uint16_t> ids, const std::vector<std::string>& decoded) {
  std::size_t end = 0, begun = 0;
  for (std::size_t i = 0; i < slices.size(); ++i) {
    begun = slices[i].end > end ? 0 : begun + decoded[ids[i]].size();
    end = std::max(end, slices[i].end);
  }
  if (begun == 0 || end >= spelled.size()) return end;
  std::size_t character = end + 1;
  while (character < spelled.size() && (static_cast<unsigned char>(spelled[character]) & 0xC0) == 0x80)
    ++character;
  return std::min(end + begun, character);
}

}  // namespace

/// Bytes of text that beginnings of the spelled text stand for.
std::vector<std::uint64_t> Tokenizer::Impl::text_bytes(std::string_view spelled,
                                                       std::span<const std::size_t> ends) const {
  if (!has_case_operators(transform)) return {ends.begin(), ends.end()};
  return caseops_text_bytes(spelled, ends, markers_of(transform));
}

std::uint64_t Tokenizer::source_bytes(std::string_view document, std::span<const std::uint16_t> ids) const {
  if (!keeps_all(impl_->transform)) {
    std::string buffer;
    const auto spelled = impl_->spelled(document, buffer);
    const auto apart = impl_->apart<std::uint16_t>(ids);
    if (const auto slices = aligned(impl_->processor, spelled, apart)) {
      const std::size_t end = aligned_end(spelled, *slices, apart, impl_->decoded);
      return impl_->text_bytes(spelled, {&end, 1})[0];
    }
  }
  const auto text = impl_->original(pieces_text(ids));
  return static_cast<std::uint64_t>(std::ranges::mismatch(document, text).in1 - document.begin());
}

std::vector<std::uint16_t> Tokenizer::surface_bytes(std::string_view document,
                                                    std::span<const std::uint16_t> ids) const {
  std::string buffer;
  std::string_view spelled;
  auto apart = impl_->apart<std::uint16_t>(ids);
  std::vector<std::size_t> ends;                           // of what lies before each piece and of the piece
  auto known = std::numeric_limits<std::uint64_t>::max();  // as far as the pieces give the document back
  if (keeps_all(impl_->transform)) {
    spelled = buffer = pieces_text(ids);
    std::size_t end = 0;
    for (const auto id : ids) {
      ends.push_back(end);
      ends.push_back(end += impl_->spelling(id).size());
    }
    known = source_bytes(document, ids);  // all of it, but for a model that only says that it is lossless
  } else {
    spelled = impl_->spelled(document, buffer);
    const auto slices = aligned(impl_->processor, spelled, apart);
    base::check(slices.has_value(), "the bytes of tokens that are not the document's");
    for (const auto& slice : *slices) ends.insert(ends.end(), {slice.begin, slice.end});
  }
  auto bytes = impl_->text_bytes(spelled, ends);
  for (auto& end : bytes) end = std::min(end, known);
  std::vector<std::uint16_t> counts;
  counts.reserve(apart.size());
  for (std::size_t i = 0; i < bytes.size(); i += 2)
    counts.push_back(static_cast<std::uint16_t>(
        std::min<std::uint64_t>(bytes[i + 1] - bytes[i], std::numeric_limits<std::uint16_t>::max())));
  if (impl_->fusion) impl_->fusion->fuse(apart, 0, &counts);
  return counts;
}

}  // namespace fairway::text
