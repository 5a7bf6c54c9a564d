#include "fairway/text/tokenizer.h"

#include <algorithm>
#include <array>
#include <exception>
#include <limits>

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/hash.h"
#include "fairway/base/text.h"
#include "tokenizer_impl.h"

namespace fairway::text {

using base::fail_input;

namespace {

constexpr std::uint64_t kMaxModelBytes = std::uint64_t{64} << 20;
constexpr std::string_view kSpace = "\xE2\x96\x81";  // U+2581, SentencePiece's space
constexpr std::array<std::string_view, 6> kTransforms = {
    "none", "lossless_v1", "caseops", "caseops_lossless_v1", "caseops_fused", "caseops_fused_lossless_v1"};

std::string one_line(std::string_view message) {
  std::string line(message.substr(0, 200));
  std::replace_if(
      line.begin(), line.end(), [](unsigned char c) { return c < 0x20; }, ' ');
  return line;
}

// "a▁b" -> "a b"
std::string unescape_spaces(std::string_view piece) {
  std::string text;
  while (!piece.empty()) {
    const std::size_t at = piece.find(kSpace);
    text += piece.substr(0, at);
    if (at == std::string_view::npos) break;
    text += ' ';
    piece.remove_prefix(at + kSpace.size());
  }
  return text;
}

}  // namespace

std::string_view transform_name(Transform transform) {
  return kTransforms[static_cast<std::size_t>(transform)];
}

std::optional<Transform> parse_transform(std::string_view name) {
  for (std::size_t i = 0; i < kTransforms.size(); ++i)
    if (kTransforms[i] == name) return static_cast<Transform>(i);
  return std::nullopt;
}

namespace {

/// The published CaseOps models say nothing of a transform: their four operators follow the special pieces,
/// as symbols of the user's (docs/spec/caseops_tokenizer.md section 5.1).
bool holds_case_operators(const ModelProto& model, int count) {
  const auto operators = static_cast<std::size_t>(count);
  if (model.pieces.size() < first_operator + operators) return false;
  for (std::size_t i = 0; i < operators; ++i) {
    const Piece& piece = model.pieces[first_operator + i];
    if (piece.kind != PieceKind::user_defined ||
        piece.text != case_operator_text(static_cast<CaseOperator>(i)))
      return false;
  }
  return true;
}

}  // namespace

void Tokenizer::Impl::load(const std::string& name) {
  try {
    const auto status =
        processor.LoadFromSerializedProto({reinterpret_cast<const char*>(bytes.data()), bytes.size()});
    if (!status.ok())
      fail_input("{}: SentencePiece refuses the model: {}", name, one_line(status.error_message()));
  } catch (const base::Error&) {
    throw;
  } catch (const std::exception& error) {
    fail_input("{}: SentencePiece refuses the model: {}", name, one_line(error.what()));
  }
  if (processor.GetPieceSize() != static_cast<int>(model.pieces.size()))
    fail_input("{}: damaged model ({} pieces, SentencePiece sees {})", name, model.pieces.size(),
               processor.GetPieceSize());
}

/// Byte pieces <0x00> to <0x02> become (space, operator): texts have no such bytes but by themselves, and
/// those are spaces (spelled()).
void Tokenizer::Impl::fuse_markers(const std::string& name) {
  const auto find = [&](std::string_view text, PieceKind kind) {
    const auto found =
        std::ranges::find_if(model.pieces, [&](const Piece& p) { return p.text == text && p.kind == kind; });
    if (found == model.pieces.end())
      fail_input("{}: markers cannot be fused in a model without the piece '{}'", name, text);
    return static_cast<std::int32_t>(found - model.pieces.begin());
  };
  fusion.emplace();
  fusion->space = find(kSpace, PieceKind::normal);
  constexpr std::array<std::string_view, 3> donors = {"<0x00>", "<0x01>", "<0x02>"};
  for (std::size_t i = 0; i < donors.size(); ++i) {
    const auto marker = static_cast<std::int32_t>(first_operator + i);
    fusion->pairs[i] = {marker, find(donors[i], PieceKind::byte)};
    auto& donor = model.pieces[static_cast<std::size_t>(fusion->pairs[i].donor)];
    donor.text = std::string(kSpace) + model.pieces[static_cast<std::size_t>(marker)].text;
    donor.kind = PieceKind::user_defined;
  }
}

void Tokenizer::Impl::index() {
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    ids.emplace(piece.text, static_cast<std::int32_t>(id));
    if (piece.kind == PieceKind::byte) {
      const auto value = static_cast<std::uint8_t>(std::stoi(piece.text.substr(3, 2), nullptr, 16));
      byte_ids[value] = static_cast<std::int32_t>(id);
      decoded.emplace_back(1, static_cast<char>(value));
    } else {
      const auto op = case_operator(piece.text);
      const bool space = (fusion && fusion->of_donor(static_cast<std::int32_t>(id))) ||
                         (is_case_operator(id) && op >= CaseOperator::space_title);
      const bool silent = piece.kind == PieceKind::control || is_case_operator(id);
      decoded.push_back(space                              ? " "
                        : silent                           ? std::string()
                        : piece.kind == PieceKind::unknown ? model.unknown_surface
                                                           : unescape_spaces(piece.text));
    }
  }
  const auto s = ids.find("<s>");
  if (s != ids.end() && model.pieces[static_cast<std::size_t>(s->second)].kind == PieceKind::control)
    bos = s->second;
  else if (processor.bos_id() >= 0)
    bos = processor.bos_id();
}

Tokenizer Tokenizer::from_bytes(std::span<const std::byte> model, const std::string& name, bool plain) {
  if (model.empty()) fail_input("{}: empty file; give a SentencePiece .model file", name);
  if (model.size() > kMaxModelBytes)
    fail_input("{}: {} bytes is too large for a tokenizer (at most {})", name, model.size(), kMaxModelBytes);
  auto impl = std::make_shared<Impl>();
  impl->bytes.assign(model.begin(), model.end());
  impl->fingerprint = base::hash64(impl->bytes);
  impl->model = parse_model(impl->bytes, name);
  const NormalizerSpec& normalizer = impl->model.normalizer;
  if (!impl->model.transform.empty()) {
    const auto transform = parse_transform(impl->model.transform);
    if (!transform)
      fail_input("{}: unknown transform '{}'; a newer Fairway made this tokenizer", name,
                 one_line(impl->model.transform));
    impl->transform = *transform;
  } else if (!plain && holds_case_operators(impl->model, case_operator_count)) {
    impl->transform = Transform::caseops;
  }
  if (const int count = operator_count(impl->transform);
      count > 0 && !holds_case_operators(impl->model, count))
    fail_input("{}: says {} but its pieces 4 to {} are not the case operators", name,
               transform_name(impl->transform), 3 + count);
  const bool identity = normalizer.charsmap.empty() && impl->model.denormalizer.charsmap.empty() &&
                        !normalizer.add_dummy_prefix && !normalizer.remove_extra_whitespaces &&
                        normalizer.escape_whitespaces && impl->model.byte_fallback;
  if (keeps_all(impl->transform) && !identity)
    fail_input("{}: says {} but normalises text or lacks byte fallback", name,
               transform_name(impl->transform));
  impl->load(name);
  impl->bpe = BpeEncoder::create(impl->model);
  if (impl->transform == Transform::caseops_fused) impl->fuse_markers(name);
  impl->index();
  const Tokenizer tokenizer(impl);
  if (keeps_all(impl->transform))
    impl->lossless = tokenizer.decode(tokenizer.encode(hostile_text())) == hostile_text();
  return tokenizer;
}

Tokenizer Tokenizer::load(const std::filesystem::path& path) {
  return from_bytes(base::read_file(path, kMaxModelBytes), path.string());
}

std::string_view Tokenizer::Impl::spelled(std::string_view text, std::string& buffer) const {
  if (!has_case_operators(transform)) return text;
  buffer = caseops_encode(text, markers_of(transform));
  if (fusion)
    std::ranges::replace_if(
        buffer, [](unsigned char c) { return c < 3; }, ' ');  // their pieces are taken
  return buffer;
}

Tokenizer Tokenizer::with_fused_markers() const {
  if (has_fused_markers(transform())) return *this;
  if (transform() != Transform::caseops)
    fail_input(
        "markers cannot be fused in a tokenizer with transform '{}': only in published CaseOps models, or in "
        "one "
        "of ours as it is trained (`fairway tokenizer train --transform caseops --fuse-markers`)",
        transform_name(transform()));
  auto bytes = impl_->bytes;
  const auto field = transform_field(transform_name(Transform::caseops_fused));
  bytes.insert(bytes.end(), reinterpret_cast<const std::byte*>(field.data()),
               reinterpret_cast<const std::byte*>(field.data()) + field.size());
  return from_bytes(bytes, "tokenizer with fused markers");
}

template <class Id>
void Tokenizer::Impl::encode_plain(std::string_view text, std::vector<Id>& out, std::string_view what) const {
  thread_local std::vector<std::int32_t> ids_of_text;
  if (bpe) {
    ids_of_text.clear();
    bpe->encode(text, ids_of_text);
    out.insert(out.end(), ids_of_text.begin(), ids_of_text.end());
    return;
  }
  // It refuses texts that a model has no pieces for: one with a control symbol's name of one character.
  const auto status = processor.Encode(text, &ids_of_text);
  if (!status.ok())
    fail_input("{}: this tokenizer cannot encode the text, take another one (SentencePiece: {})", what,
               one_line(status.error_message()));
  out.insert(out.end(), ids_of_text.begin(), ids_of_text.end());
}

template <class Id>
void Tokenizer::encode_to(std::string_view text, std::vector<Id>& out, std::string_view what) const {
  if (text.empty()) fail_input("{}: empty text; there is nothing to tokenise", what);
  if (const auto bad = base::invalid_utf8_at(text))
    fail_input("{}: not valid UTF-8 at byte {} (0x{:02x}); convert the text to UTF-8", what, *bad,
               static_cast<unsigned char>(text[*bad]));
  if (impl_->model.pieces.size() > std::size_t{1} + std::numeric_limits<Id>::max())
    fail_input("{}: vocabulary of {} does not fit 16-bit ids", what, impl_->model.pieces.size());
  std::string buffer;
  text = impl_->spelled(text, buffer);
  if (!keeps_all(impl_->transform)) {
    const auto first = out.size();
    impl_->encode_plain(text, out, what);
    if (!impl_->fusion) return;
    const auto taken = [&](Id id) { return impl_->fusion->of_donor(static_cast<std::int32_t>(id)); };
    if (std::any_of(out.begin() + static_cast<std::ptrdiff_t>(first), out.end(), taken))
      fail_input("{}: this tokenizer makes U+0000 to U+0002 of the text, whose pieces fused markers take",
                 what);
    return impl_->fusion->fuse(out, first);
  }
  while (!text.empty()) {
    const std::size_t at = text.find(kSpace);
    if (at != 0) impl_->encode_plain(text.substr(0, at), out, what);
    if (at == std::string_view::npos) break;
    for (const char c : kSpace)
      out.push_back(static_cast<Id>(impl_->byte_ids[static_cast<unsigned char>(c)]));
    text.remove_prefix(at + kSpace.size());
  }
}

void Tokenizer::encode(std::string_view text, std::vector<std::uint16_t>& out, std::string_view what) const {
  encode_to(text, out, what);
}
void Tokenizer::encode(std::string_view text, std::vector<std::int32_t>& out, std::string_view what) const {
  encode_to(text, out, what);
}
std::vector<std::int32_t> Tokenizer::encode(std::string_view text, std::string_view what) const {
  std::vector<std::int32_t> out;
  encode_to(text, out, what);
  return out;
}

template <class Id>
std::string Tokenizer::decode_from(std::span<const Id> ids, bool strict) const {
  auto text = pieces_text(ids);
  const auto transform = impl_->transform;
  if (!has_case_operators(transform)) return text;
  // Normalisation can make letters behind the operators' back.
  return strict && keeps_all(transform) ? caseops_decode(text, "tokens", markers_of(transform))
                                        : impl_->original(text);
}

/// What the pieces say, case operators as they are.
template <class Id>
std::string Tokenizer::pieces_text(std::span<const Id> ids) const {
  for (std::size_t i = 0; i < ids.size(); ++i)
    if (ids[i] < 0 || ids[i] >= vocab_size())
      fail_input("token {} at position {} is outside the tokenizer's vocabulary of {}", ids[i], i,
                 vocab_size());
  std::string text;
  if (keeps_all(impl_->transform)) {
    for (const Id id : ids) text += impl_->spelling(static_cast<std::size_t>(id));
    return text;
  }
  const auto status = impl_->processor.Decode(impl_->apart<int>(ids), &text);
  if (!status.ok())
    fail_input("this tokenizer cannot decode the tokens (SentencePiece: {})",
               one_line(status.error_message()));
  return text;
}

template std::string Tokenizer::pieces_text(std::span<const std::uint16_t> ids) const;

std::string Tokenizer::decode(std::span<const std::int32_t> ids) const { return decode_from(ids, true); }
std::string Tokenizer::decode(std::span<const std::uint16_t> ids) const { return decode_from(ids, true); }
std::string Tokenizer::decode_any(std::span<const std::int32_t> ids) const { return decode_from(ids, false); }
std::string Tokenizer::decode_any(std::span<const std::uint16_t> ids) const {
  return decode_from(ids, false);
}

std::int32_t Tokenizer::vocab_size() const noexcept {
  return static_cast<std::int32_t>(impl_->model.pieces.size());
}
std::int32_t Tokenizer::bos_id() const noexcept { return impl_->bos; }
const std::string& Tokenizer::piece(std::int32_t id) const {
  return impl_->model.pieces.at(static_cast<std::size_t>(id)).text;
}
PieceKind Tokenizer::kind(std::int32_t id) const {
  return impl_->model.pieces.at(static_cast<std::size_t>(id)).kind;
}
const std::string& Tokenizer::token_bytes(std::int32_t id) const {
  return impl_->decoded.at(static_cast<std::size_t>(id));
}
std::int32_t Tokenizer::piece_id(std::string_view piece) const {
  const auto found = impl_->ids.find(piece);
  return found == impl_->ids.end() ? -1 : found->second;
}
Transform Tokenizer::transform() const noexcept { return impl_->transform; }
const MarkerFusion* Tokenizer::marker_fusion() const noexcept {
  return impl_->fusion ? &*impl_->fusion : nullptr;
}
bool Tokenizer::byte_fallback() const noexcept { return impl_->model.byte_fallback; }
bool Tokenizer::lossless() const noexcept { return impl_->lossless; }
bool Tokenizer::denormalises() const noexcept { return !impl_->model.denormalizer.charsmap.empty(); }
bool Tokenizer::strips_leading_space() const noexcept {
  return impl_->model.normalizer.add_dummy_prefix || impl_->model.normalizer.remove_extra_whitespaces;
}
std::span<const std::byte> Tokenizer::model_bytes() const noexcept { return impl_->bytes; }
std::uint64_t Tokenizer::fingerprint() const noexcept { return impl_->fingerprint; }

}  // namespace fairway::text
