#include "bpe_encoder.h"

#include <algorithm>
#include <array>
#include <bit>
#include <cstring>
#include <span>

#include "fairway/base/error.h"
#include "fairway/base/hash.h"
#include "fairway/text/caseops.h"

namespace fairway::text {
namespace {

constexpr std::string_view kSpace = "\xE2\x96\x81";

// Fields of a Darts double array's unit (darts.h, DoubleArrayUnit); model_proto.cpp has checked that all lead
// inside.
bool has_leaf(std::uint32_t unit) { return (unit >> 8) & 1; }
std::uint32_t value_of(std::uint32_t unit) { return unit & 0x7fffffffu; }
std::uint32_t label_of(std::uint32_t unit) { return unit & 0x800000ffu; }
std::uint32_t offset_of(std::uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); }

std::size_t character_bytes(char lead) {
  const auto byte = static_cast<unsigned char>(lead);
  return byte < 0x80 ? 1 : byte < 0xE0 ? 2 : byte < 0xF0 ? 3 : 4;
}

}  // namespace

Normalizer::Normalizer(const NormalizerSpec& spec)
    : plain_(128 * 128, true),
      add_dummy_prefix_(spec.add_dummy_prefix),
      remove_extra_whitespaces_(spec.remove_extra_whitespaces) {
  if (!spec.charsmap.empty()) {
    std::uint32_t bytes = 0;
    std::memcpy(&bytes, spec.charsmap.data(), sizeof bytes);
    trie_.resize(bytes / 4);
    std::memcpy(trie_.data(), spec.charsmap.data() + sizeof bytes, bytes);
    replacements_ = spec.charsmap.substr(sizeof bytes + bytes);
  }
  for (unsigned first = 0; first < 128; ++first)
    for (unsigned second = 0; second < 128; ++second) {
      if (first == ' ') plain_[first * 128 + second] = false;  // spaces have rules of their own
      if (trie_.empty()) continue;
      const std::uint32_t at = offset_of(trie_[0]) ^ first;
      if (label_of(trie_[at]) != first) continue;
      const std::uint32_t next = at ^ offset_of(trie_[at]);
      if (has_leaf(trie_[at]) || label_of(trie_[next ^ second]) == second)
        plain_[first * 128 + second] = false;
    }
}

std::string_view Normalizer::prefix(std::string_view text, std::size_t& consumed) const {
  std::size_t longest = 0;
  std::uint32_t value = 0;
  if (!trie_.empty()) {
    std::uint32_t at = offset_of(trie_[0]);
    for (std::size_t i = 0; i < text.size(); ++i) {
      const auto byte = static_cast<unsigned char>(text[i]);
      at ^= byte;
      const std::uint32_t unit = trie_[at];
      if (label_of(unit) != byte) break;
      at ^= offset_of(unit);
      if (has_leaf(unit)) longest = i + 1, value = value_of(trie_[at]);
    }
  }
  consumed = longest != 0 ? longest : character_bytes(text[0]);
  return longest != 0 ? std::string_view(replacements_.c_str() + value) : text.substr(0, consumed);
}

void Normalizer::normalize(std::string_view text, std::string& out) const {
  out.clear();
  std::size_t consumed = 0;
  if (remove_extra_whitespaces_)
    while (!text.empty() && prefix(text, consumed) == " ") text.remove_prefix(consumed);
  if (text.empty()) return;
  if (add_dummy_prefix_) out += kSpace;
  bool after_space = remove_extra_whitespaces_;
  while (!text.empty()) {
    const auto a = static_cast<unsigned char>(text[0]);
    const auto b = static_cast<unsigned char>(text.size() > 1 ? text[1] : 0x80);
    if (a < 128 && b < 128 && plain_[a * 128u + b]) {
      out += text[0];
      text.remove_prefix(1);
      after_space = false;
      continue;
    }
    std::string_view part = prefix(text, consumed);
    while (after_space && part.starts_with(' ')) part.remove_prefix(1);
    for (const char c : part) {
      if (c == ' ')
        out += kSpace;
      else
        out += c;
    }
    if (!part.empty()) after_space = part.ends_with(' ');
    if (!remove_extra_whitespaces_) after_space = false;
    text.remove_prefix(consumed);
  }
  if (remove_extra_whitespaces_)
    while (out.ends_with(kSpace)) out.resize(out.size() - kSpace.size());
}

/// The ids of words seen before: the latest word of each slot, so that most of a text is not merged again.
class WordCache {
 public:
  static constexpr std::size_t most_bytes = 30, most_ids = 8;
  struct Entry {
    std::array<std::int32_t, most_ids> ids;
    std::uint8_t bytes = 0, count = 0;  // 0 bytes: free
    std::array<char, most_bytes> word;

    bool holds(std::string_view text) const { return std::string_view(word.data(), bytes) == text; }
    void put(std::string_view text, std::span<const std::int32_t> its_ids) {
      if (its_ids.size() > most_ids) return;
      std::ranges::copy(its_ids, ids.begin());
      std::ranges::copy(text, word.begin());
      bytes = static_cast<std::uint8_t>(text.size());
      count = static_cast<std::uint8_t>(its_ids.size());
    }
  };
  static_assert(sizeof(Entry) == 64);

  /// Forgets what another encoder put in.
  void belong_to(std::uint64_t encoder) {
    if (encoder_ == encoder && !entries_.empty()) return;
    entries_.assign(std::size_t{1} << 14, {});
    encoder_ = encoder;
  }
  Entry& at(std::string_view word) { return entries_[base::hash64(word) & (entries_.size() - 1)]; }

 private:
  std::vector<Entry> entries_;
  std::uint64_t encoder_ = 0;
};

struct BpeEncoder::Workspace {
  struct Symbol {
    std::int32_t begin, size;  // bytes of the word; size 0: merged into the one before
    std::int32_t previous, next;
  };
  struct Pair {
    float score;
    std::int32_t left, right, size;
    // A heap's top is the highest score, then the leftmost.
    bool operator<(const Pair& other) const {
      return score < other.score || (score == other.score && left > other.left);
    }
  };
  std::string normalized;
  std::vector<Symbol> symbols;
  std::vector<Pair> agenda;
  WordCache cache;
};

std::unique_ptr<const BpeEncoder> BpeEncoder::create(const ModelProto& model) {
  if (model.model_type != 2 || !model.byte_fallback || model.whitespace_as_suffix ||
      !model.normalizer.escape_whitespaces)
    return nullptr;
  for (const Piece& piece : model.pieces) {
    if (piece.kind == PieceKind::unused) return nullptr;
    if (piece.kind == PieceKind::user_defined && !case_operator(piece.text)) return nullptr;
    std::string_view rest = piece.text;
    while (rest.starts_with(kSpace)) rest.remove_prefix(kSpace.size());
    if (piece.kind == PieceKind::normal && rest.find(kSpace) != std::string_view::npos) return nullptr;
  }
  return std::unique_ptr<const BpeEncoder>(new BpeEncoder(model));
}

BpeEncoder::BpeEncoder(const ModelProto& model) : normalizer_(model.normalizer) {
  slots_.resize(std::bit_ceil(model.pieces.size() * 4));
  std::string all;
  pieces_.reserve(model.pieces.size());
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    pieces_.push_back(piece.text);
    scores_.push_back(piece.score);
    all += piece.text;
    all.append(reinterpret_cast<const char*>(&piece.score), sizeof piece.score);
    all += static_cast<char>(piece.kind);
    if (const auto op = case_operator(piece.text); op && piece.kind == PieceKind::user_defined)
      operator_ids_[static_cast<std::size_t>(*op)] = static_cast<std::int32_t>(id);
    if (piece.kind == PieceKind::byte)
      byte_ids_[std::stoi(piece.text.substr(3, 2), nullptr, 16)] = static_cast<std::int32_t>(id);
    if (piece.kind != PieceKind::normal) continue;
    std::size_t slot = base::hash64(piece.text) & (slots_.size() - 1);
    while (!slots_[slot].piece.empty()) slot = (slot + 1) & (slots_.size() - 1);
    slots_[slot] = {pieces_.back(), static_cast<std::int32_t>(id)};
  }
  identity_ = base::hash64(all);
}

std::int32_t BpeEncoder::find(std::string_view piece) const {
  for (std::size_t slot = base::hash64(piece) & (slots_.size() - 1);;
       slot = (slot + 1) & (slots_.size() - 1)) {
    if (slots_[slot].piece.empty()) return -1;
    if (slots_[slot].piece == piece) return slots_[slot].id;
  }
}

/// Of the case operator that the text begins with; -1: none, or none of the model's.
std::int32_t BpeEncoder::operator_id(std::string_view text) const {
  const auto op = case_operator(text.substr(0, kSpace.size()));
  return op ? operator_ids_[static_cast<std::size_t>(*op)] : -1;
}

void BpeEncoder::push_pair(std::string_view word, std::int32_t left, std::int32_t right,
                           Workspace& work) const {
  if (left < 0 || right < 0) return;
  const auto& a = work.symbols[static_cast<std::size_t>(left)];
  const std::int32_t size = a.size + work.symbols[static_cast<std::size_t>(right)].size;
  const std::int32_t id =
      find(word.substr(static_cast<std::size_t>(a.begin), static_cast<std::size_t>(size)));
  if (id < 0) return;
  work.agenda.push_back({scores_[static_cast<std::size_t>(id)], left, right, size});
  std::push_heap(work.agenda.begin(), work.agenda.end());
}

void BpeEncoder::encode_word(std::string_view word, Workspace& work, std::vector<std::int32_t>& out) const {
  if (word.size() > WordCache::most_bytes) return merge_word(word, work, out);
  auto& entry = work.cache.at(word);
  if (entry.holds(word)) {
    out.insert(out.end(), entry.ids.begin(), entry.ids.begin() + entry.count);
    return;
  }
  const auto before = out.size();
  merge_word(word, work, out);
  entry.put(word, std::span(out).subspan(before));
}

void BpeEncoder::merge_word(std::string_view word, Workspace& work, std::vector<std::int32_t>& out) const {
  if (const std::int32_t id = word.size() <= 4 ? find(word) : -1;
      id >= 0 && word.size() == character_bytes(word[0])) {
    out.push_back(id);
    return;
  }
  auto& symbols = work.symbols;
  symbols.clear();
  work.agenda.clear();
  for (std::size_t at = 0; at < word.size();) {
    const std::size_t size = std::min(character_bytes(word[at]), word.size() - at);
    const auto index = static_cast<std::int32_t>(symbols.size());
    symbols.push_back({static_cast<std::int32_t>(at), static_cast<std::int32_t>(size), index - 1, index + 1});
    at += size;
  }
  symbols.back().next = -1;
  for (std::int32_t i = 1; i < static_cast<std::int32_t>(symbols.size()); ++i)
    push_pair(word, i - 1, i, work);
  while (!work.agenda.empty()) {
    const auto top = work.agenda.front();
    std::pop_heap(work.agenda.begin(), work.agenda.end());
    work.agenda.pop_back();
    auto& left = symbols[static_cast<std::size_t>(top.left)];
    auto& right = symbols[static_cast<std::size_t>(top.right)];
    if (left.size == 0 || right.size == 0 || left.size + right.size != top.size) continue;  // no longer there
    left.size = top.size;
    left.next = right.next;
    if (right.next >= 0) symbols[static_cast<std::size_t>(right.next)].previous = top.left;
    right.size = 0;
    push_pair(word, left.previous, top.left, work);
    push_pair(word, top.left, left.next, work);
  }
  for (std::int32_t i = 0; i >= 0; i = symbols[static_cast<std::size_t>(i)].next) {
    const auto& symbol = symbols[static_cast<std::size_t>(i)];
    const auto piece =
        word.substr(static_cast<std::size_t>(symbol.begin), static_cast<std::size_t>(symbol.size));
    const std::int32_t id = find(piece);
    if (id >= 0)
      out.push_back(id);
    else
      for (const char c : piece) out.push_back(byte_ids_[static_cast<unsigned char>(c)]);
  }
}

void BpeEncoder::encode(std::string_view text, std::vector<std::int32_t>& out) const {
  thread_local Workspace work;  // buffers and known words: no call allocates, or merges again, for each word
  work.cache.belong_to(identity_);
  normalizer_.normalize(text, work.normalized);
  std::string_view rest = work.normalized;
  while (!rest.empty()) {
    if (const auto id = operator_id(rest); id >= 0) {
      out.push_back(id);
      rest.remove_prefix(kSpace.size());
      continue;
    }
    // A word: leading spaces and what follows them up to the next space or case operator.
    std::size_t end = 0;
    while (rest.substr(end).starts_with(kSpace)) end += kSpace.size();
    end = std::min(rest.find(kSpace, end), rest.size());
    for (std::size_t at = rest.find('\xEE'); at < end; at = rest.find('\xEE', at + 1))
      if (operator_id(rest.substr(at)) >= 0) end = at;
    encode_word(rest.substr(0, end), work, out);
    rest.remove_prefix(end);
  }
}

}  // namespace fairway::text
