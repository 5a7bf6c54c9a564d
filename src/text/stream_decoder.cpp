#include "fairway/text/stream_decoder.h"

#include "fairway/base/text.h"
#include "model_proto.h"

namespace fairway::text {
namespace {

constexpr std::size_t kLongest = 4;  // bytes of a character

/// Bytes of the character that begins so; 0: none does.
std::size_t length_of(unsigned char first) {
  if (first < 0xC2 || first > 0xF4) return 0;
  return first < 0xE0 ? 2 : first < 0xF0 ? 3 : 4;
}

/// Whether more bytes can make one character of these.
bool unfinished(std::string_view bytes) {
  const auto length = length_of(static_cast<unsigned char>(bytes[0]));
  if (bytes.size() >= length) return false;
  for (const char second : {'\x80', '\x90', '\xA0'}) {  // one of them can follow any first byte
    auto whole = std::string(bytes) + second;
    whole.resize(length, '\x80');
    if (!base::invalid_utf8_at(whole)) return true;
  }
  return false;
}

/// Bytes at the end that a character may still grow from.
std::size_t unfinished_tail(std::string_view text) {
  for (std::size_t n = std::min(text.size(), kLongest - 1); n > 0; --n)
    if (unfinished(text.substr(text.size() - n))) return n;
  return 0;
}

}  // namespace

std::string valid_utf8(std::string text) {
  std::string out;
  std::string_view rest = text;
  while (const auto bad = base::invalid_utf8_at(rest)) {
    out += rest.substr(0, *bad);
    out += "\xEF\xBF\xBD";
    rest.remove_prefix(*bad + 1);
  }
  return out.empty() ? std::move(text) : out.append(rest);
}

StreamDecoder::StreamDecoder(const Tokenizer& tokenizer, std::string_view prompt,
                             std::span<const std::int32_t> ids)
    : tokenizer_(tokenizer), ids_(ids.begin(), ids.end()), prompt_ids_(ids.size()) {
  at_once_ = !parse_model(tokenizer.model_bytes(), "tokenizer").denormalizer.charsmap.empty();
  // Where the tokenizer changes the prompt (normalisation), the text goes on behind what it made of it.
  const auto read = tokenizer_.decode_any(ids);
  prompt_bytes_ = read.starts_with(prompt) ? prompt.size() : read.size();
}

/// Ids whose text later ones cannot change. (SentencePiece decodes byte pieces together.)
std::size_t StreamDecoder::settled() const {
  std::string bytes;
  std::size_t first = ids_.size();
  while (first > prompt_ids_ && ids_.size() - first < kLongest - 1 &&
         tokenizer_.kind(ids_[first - 1]) == PieceKind::byte)
    bytes.insert(0, tokenizer_.token_bytes(ids_[--first]));
  return ids_.size() - unfinished_tail(bytes);
}

std::string StreamDecoder::advance(std::string raw) {
  auto text = valid_utf8(std::move(raw));
  std::string more = text.substr(std::min(text.size(), text_.size()));
  text_ = std::move(text);
  return more;
}

std::string StreamDecoder::decode(std::size_t count) const {
  const auto raw = tokenizer_.decode_any(std::span<const std::int32_t>(ids_).first(count));
  return raw.substr(std::min(prompt_bytes_, raw.size()));
}

std::string StreamDecoder::add(std::int32_t id) {
  ids_.push_back(id);
  if (at_once_) return "";
  auto raw = decode(settled());
  raw.resize(raw.size() - unfinished_tail(raw));  // lossless tokenizers decode to bytes as they are
  return advance(std::move(raw));
}

std::string StreamDecoder::finish() { return advance(decode(ids_.size())); }

}  // namespace fairway::text
