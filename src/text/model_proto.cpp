#include "model_proto.h"

#include <cmath>
#include <cstring>
#include <unordered_set>

#include "fairway/base/error.h"
#include "fairway/base/text.h"

namespace fairway::text {
namespace {

using base::fail_input;

constexpr std::size_t kMaxPieces = 1 << 20;
constexpr std::size_t kMaxPieceBytes = 1024;

struct Field {
  std::uint32_t number = 0;
  std::uint32_t wire = 0;
  std::uint64_t value = 0;  // wires 0, 1 and 5
  std::string_view bytes;   // wire 2
};

// Protocol buffers' wire format; groups (wires 3 and 4) are refused, no SentencePiece model has them.
class WireReader {
 public:
  WireReader(std::string_view bytes, const std::string& name) : bytes_(bytes), name_(name) {}

  bool next(Field& field) {
    if (position_ == bytes_.size()) return false;
    const std::uint64_t key = varint();
    if (key >> 3 == 0 || key >> 32 != 0) damaged();
    field.number = static_cast<std::uint32_t>(key >> 3);
    field.wire = static_cast<std::uint32_t>(key & 7);
    switch (field.wire) {
      case 0:
        field.value = varint();
        break;
      case 1:
        field.value = fixed<std::uint64_t>();
        break;
      case 2:
        field.bytes = take(varint());
        break;
      case 5:
        field.value = fixed<std::uint32_t>();
        break;
      default:
        damaged();
    }
    return true;
  }
  void expect_wire(const Field& field, std::uint32_t wire) const {
    if (field.wire != wire) damaged();
  }
  [[noreturn]] void damaged() const {
    fail_input("{}: not a SentencePiece model, or damaged (near byte {}); give a .model file", name_,
               position_);
  }

 private:
  std::string_view take(std::uint64_t count) {
    if (count > bytes_.size() - position_) damaged();
    auto part = bytes_.substr(position_, count);
    position_ += count;
    return part;
  }
  template <class T>
  T fixed() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  std::uint64_t varint() {
    std::uint64_t value = 0;
    for (int shift = 0; shift < 64; shift += 7) {
      const auto byte = static_cast<unsigned char>(take(1)[0]);
      value |= std::uint64_t{byte & 0x7fu} << shift;
      if (byte < 0x80) return value;
    }
    damaged();
  }

  std::string_view bytes_;
  const std::string& name_;
  std::size_t position_ = 0;
};

Piece parse_piece(std::string_view bytes, const std::string& name) {
  WireReader reader(bytes, name);
  Piece piece;
  for (Field field; reader.next(field);) {
    if (field.number == 1) {
      reader.expect_wire(field, 2);
      piece.text = field.bytes;
    } else if (field.number == 2) {
      reader.expect_wire(field, 5);
      const auto bits = static_cast<std::uint32_t>(field.value);
      std::memcpy(&piece.score, &bits, sizeof bits);
    } else if (field.number == 3) {
      reader.expect_wire(field, 0);
      if (field.value < 1 || field.value > 6) reader.damaged();
      piece.kind = static_cast<PieceKind>(field.value);
    }
  }
  return piece;
}

void parse_trainer(std::string_view bytes, const std::string& name, ModelProto& model) {
  WireReader reader(bytes, name);
  for (Field field; reader.next(field);) {
    if (field.number == 44) {
      reader.expect_wire(field, 2);
      model.unknown_surface = field.bytes;
    }
    if (field.number != 3 && field.number != 24 && field.number != 35) continue;
    reader.expect_wire(field, 0);
    if (field.number == 3) {
      if (field.value != 1 && field.value != 2)
        fail_input("{}: SentencePiece model type {} is not supported (unigram and bpe are)", name,
                   field.value);
      model.model_type = static_cast<std::int32_t>(field.value);
    }
    if (field.number == 24) model.whitespace_as_suffix = field.value != 0;
    if (field.number == 35) model.byte_fallback = field.value != 0;
  }
}

// SentencePiece keeps the matches of one lookup in an array of 32 and does not look whether they fit
// (normalizer.cc, NormalizePrefix), so no path may pass more values than that. Paths of a damaged map may
// even be circular: `most` only grows, at most 32 times for a unit.
constexpr std::uint8_t kMaxMatches = 32;

bool few_matches(const std::vector<std::uint32_t>& units) {
  const auto offset = [&](std::uint32_t unit) { return (unit >> 10) << ((unit & (1u << 9)) >> 6); };
  std::vector<std::uint8_t> most(units.size(),
                                 0);  // values on a path that leads here, plus one; 0: none found yet
  std::vector<std::uint32_t> open;    // XOR bases of the units whose children are to be seen
  most[0] = 1;
  open.push_back(0);
  while (!open.empty()) {
    const std::uint32_t from = open.back();
    open.pop_back();
    const std::uint32_t base = from ^ offset(units[from]);
    for (std::uint32_t label = 0; label < 256; ++label) {
      const std::uint32_t to = base ^ label;
      if ((units[to] & 0x800000ffu) != label) continue;
      const auto matches = static_cast<std::uint8_t>(most[from] + ((units[to] >> 8) & 1));
      if (matches <= most[to]) continue;
      if (matches > kMaxMatches + 1) return false;
      most[to] = matches;
      open.push_back(to);
    }
  }
  return true;
}

// The compiled character map: 32-bit size of a Darts double array, the array, then NUL-terminated
// replacements (normalizer.cc, DecodePrecompiledCharsMap). Lookup follows offsets without a bounds check, so
// every unit that a lookup can reach must lead inside: a unit with bit 31 holds a value, any other an offset
// (bits 10-30, shifted by 8 more when bit 9 is set) to which a label byte is XORed (darts.h,
// DoubleArrayUnit).
void check_charsmap(std::string_view map, const std::string& name) {
  if (map.empty()) return;
  const auto bad = [&] { fail_input("{}: damaged character map of the normaliser", name); };
  std::uint32_t trie_bytes = 0;
  if (map.size() <= sizeof trie_bytes) bad();
  std::memcpy(&trie_bytes, map.data(), sizeof trie_bytes);
  map.remove_prefix(sizeof trie_bytes);
  if (trie_bytes >= map.size() || trie_bytes < 1024 || trie_bytes % 1024 != 0) bad();
  const std::uint64_t units = trie_bytes / 4;
  const std::uint64_t text_bytes = map.size() - trie_bytes;
  if (map.back() != '\0') bad();
  std::vector<std::uint32_t> table(units);
  std::memcpy(table.data(), map.data(), trie_bytes);
  if (table[0] >> 31) bad();
  for (std::uint64_t i = 0; i < units; ++i) {
    const std::uint32_t unit = table[i];
    if (unit >> 31) continue;
    const std::uint64_t offset = std::uint64_t{unit >> 10} << ((unit & (1u << 9)) >> 6);
    const std::uint64_t to = i ^ offset;
    if ((to | 0xff) >= units) bad();
    if ((unit >> 8) & 1 && (table[to] & 0x7fffffffu) >= text_bytes) bad();
  }
  if (!few_matches(table)) bad();
}

NormalizerSpec parse_normalizer(std::string_view bytes, const std::string& name) {
  WireReader reader(bytes, name);
  NormalizerSpec spec;
  for (Field field; reader.next(field);) {
    if (field.number == 1 || field.number == 2) reader.expect_wire(field, 2);
    if (field.number >= 3 && field.number <= 5) reader.expect_wire(field, 0);
    if (field.number == 1) spec.name = field.bytes;
    if (field.number == 2) spec.charsmap = field.bytes;
    if (field.number == 3) spec.add_dummy_prefix = field.value != 0;
    if (field.number == 4) spec.remove_extra_whitespaces = field.value != 0;
    if (field.number == 5) spec.escape_whitespaces = field.value != 0;
  }
  check_charsmap(spec.charsmap, name);
  return spec;
}

int byte_value(std::string_view piece) {
  if (piece.size() != 6 || !piece.starts_with("<0x") || piece[5] != '>') return -1;
  int value = 0;
  for (const char c : piece.substr(3, 2)) {
    const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
    if (digit < 0) return -1;
    value = value * 16 + digit;
  }
  return value;
}

void check_pieces(const ModelProto& model, const std::string& name) {
  if (model.pieces.empty())
    fail_input("{}: the SentencePiece model holds no pieces; give a .model file", name);
  std::unordered_set<std::string_view> seen;
  std::size_t unknown = 0, bytes = 0;
  for (std::size_t id = 0; id < model.pieces.size(); ++id) {
    const Piece& piece = model.pieces[id];
    const bool readable = !piece.text.empty() && piece.text.size() <= kMaxPieceBytes &&
                          piece.text.find('\0') == std::string::npos && !base::invalid_utf8_at(piece.text) &&
                          std::isfinite(piece.score);
    if (!readable) fail_input("{}: piece {} is empty, too long, not UTF-8 or has no finite score", name, id);
    if (!seen.insert(piece.text).second) fail_input("{}: piece {} repeats '{}'", name, id, piece.text);
    unknown += piece.kind == PieceKind::unknown;
    if (piece.kind != PieceKind::byte) continue;
    ++bytes;
    if (byte_value(piece.text) < 0)
      fail_input("{}: byte piece {} is named '{}', not <0xNN>", name, id, piece.text);
  }
  if (unknown != 1) fail_input("{}: {} unknown pieces (exactly one is needed)", name, unknown);
  if (model.byte_fallback && bytes != 256) fail_input("{}: {} of 256 byte pieces", name, bytes);
  if (!model.byte_fallback && bytes != 0) fail_input("{}: byte pieces without byte fallback", name);
}

}  // namespace

ModelProto parse_model(std::span<const std::byte> bytes, const std::string& name) {
  WireReader reader({reinterpret_cast<const char*>(bytes.data()), bytes.size()}, name);
  ModelProto model;
  std::uint32_t seen = 0;
  // A part that comes twice would be merged by SentencePiece and replaced by us, so it is refused.
  const auto once = [&](const Field& field) {
    reader.expect_wire(field, 2);
    if (seen & (1u << field.number)) reader.damaged();
    seen |= 1u << field.number;
  };
  for (Field field; reader.next(field);) {
    switch (field.number) {
      case 1:
        reader.expect_wire(field, 2);
        if (model.pieces.size() == kMaxPieces) fail_input("{}: more than {} pieces", name, kMaxPieces);
        model.pieces.push_back(parse_piece(field.bytes, name));
        break;
      case 2:
        once(field), parse_trainer(field.bytes, name, model);
        break;
      case 3:
        once(field), model.normalizer = parse_normalizer(field.bytes, name);
        break;
      case 5:
        once(field), model.denormalizer = parse_normalizer(field.bytes, name);
        break;
      case kTransformField:
        reader.expect_wire(field, 2), model.transform = field.bytes;
        break;
      default:
        break;
    }
  }
  check_pieces(model, name);
  return model;
}

std::string transform_field(std::string_view transform) {
  base::check(transform.size() < 128, "transform name of {} bytes", transform.size());
  std::string out;
  for (std::uint32_t key = kTransformField << 3 | 2; key != 0; key >>= 7)
    out += static_cast<char>((key & 0x7f) | (key > 0x7f ? 0x80 : 0));
  out += static_cast<char>(transform.size());
  out += transform;
  return out;
}

}  // namespace fairway::text
