#include "container.h"

#include "shuffle.h"

#include <algorithm>
#include <cstring>
#include <unordered_set>

#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "fairway/base/hash.h"

namespace fairway::artifact {
namespace {

constexpr std::uint8_t kRequiredFlag = 1;
constexpr std::size_t kMinEntryBytes = 1 + 1 + 2 + 1 + 4 * 8;

std::uint64_t align_up(std::uint64_t position, std::uint64_t alignment) {
  return (position + alignment - 1) / alignment * alignment;
}

struct Header {
  std::uint64_t required_features, optional_features, file_bytes;
  std::uint32_t sections, table_bytes;
};

void check_magic(std::span<const std::byte> bytes, std::string_view what, const ContainerKind& kind) {
  const auto is = [&](const ContainerKind& k) {
    return bytes.size() >= k.magic.size() && std::memcmp(bytes.data(), k.magic.data(), k.magic.size()) == 0;
  };
  if (is(kind)) return;
  for (const auto* other : {&kArtifactKind, &kCheckpointKind})
    if (is(*other))
      base::fail_input("{}: this is a Fairway {}, not a Fairway {}", what, other->name, kind.name);
  base::fail_input("{}: not a Fairway {} (wrong magic bytes)", what, kind.name);
}

Header parse_header(std::span<const std::byte> bytes, std::string_view what, const ContainerKind& kind,
                    const ReadLimits& limits) {
  check_magic(bytes, what, kind);
  base::ByteReader in(bytes, std::string(what));
  in.take(kind.magic.size());
  if (const auto version = in.read<std::uint32_t>(); version != kFormatVersion)
    base::fail_input("{}: format version {}, this build reads version {}: use a newer Fairway", what, version,
                     kFormatVersion);
  const auto alignment = in.read<std::uint32_t>();
  Header h{};
  h.required_features = in.read<std::uint64_t>();
  h.optional_features = in.read<std::uint64_t>();
  h.file_bytes = in.read<std::uint64_t>();
  h.sections = in.read<std::uint32_t>();
  h.table_bytes = in.read<std::uint32_t>();
  if (h.file_bytes != bytes.size())
    base::fail_input("{}: damaged: {} bytes long, its header says {}", what, bytes.size(), h.file_bytes);
  if (alignment != kind.alignment)
    base::fail_input("{}: damaged: alignment {} in the header", what, alignment);
  if (h.sections > limits.max_sections)
    base::fail_input("{}: {} sections, at most {} are read", what, h.sections, limits.max_sections);
  if (h.table_bytes > in.left() || h.table_bytes / kMinEntryBytes < h.sections)
    base::fail_input("{}: damaged: a section table of {} bytes for {} sections", what, h.table_bytes,
                     h.sections);
  in.take(h.table_bytes);
  const auto checked = bytes.first(in.position());
  if (in.read<std::uint64_t>() != base::hash64(checked) && limits.verify_checksums)
    base::fail_input("{}: damaged: the checksum of its header does not match", what);
  if (const auto unknown = h.required_features & ~kKnownFeatures)
    base::fail_input("{}: needs format feature {}, which this build lacks: use a newer Fairway", what,
                     std::countr_zero(unknown));
  return h;
}

std::string check_name(std::span<const std::byte> raw, std::string_view what) {
  std::string name(reinterpret_cast<const char*>(raw.data()), raw.size());
  if (name.empty() || name.size() > kMaxSectionName ||
      !std::all_of(name.begin(), name.end(), [](char c) { return c > ' ' && c < '\x7f'; }))
    base::fail_input("{}: damaged: a section's name is empty, too long or not printable", what);
  return name;
}

bool is_known(std::string_view name, std::span<const std::string_view> known) {
  return std::any_of(known.begin(), known.end(),
                     [&](std::string_view k) { return k.ends_with(':') ? name.starts_with(k) : name == k; });
}

/// Reads one table entry and checks that the section starts right behind `end`; moves `end` behind the
/// section.
Section parse_entry(base::ByteReader& table, std::span<const std::byte> bytes, const Container& c,
                    std::uint64_t& end, std::uint32_t alignment, bool verify) {
  Section s;
  const auto flags = table.read<std::uint8_t>();
  const auto coding = table.read<std::uint8_t>();
  s.coder = static_cast<Coder>(coding);
  if (c.required_features & kFeatureShuffle) {
    s.coder = static_cast<Coder>(coding & 15);
    if (const int stride = coding >> 4) s.shuffle = stride;
  }
  const auto length = table.read<std::uint16_t>();
  s.name = check_name(table.take(length), c.what);
  const auto offset = table.read<std::uint64_t>();
  const auto stored = table.read<std::uint64_t>();
  s.raw_bytes = table.read<std::uint64_t>();
  const auto checksum = table.read<std::uint64_t>();
  if (s.shuffle == 1 && coding != static_cast<std::uint8_t>(s.coder))
    base::fail_input("{}: damaged: section '{}' is shuffled by 1", c.what, s.name);
  if (flags & ~kRequiredFlag)
    base::fail_input("{}: damaged: flags {} of section '{}'", c.what, flags, s.name);
  s.required = flags & kRequiredFlag;
  if (offset != align_up(end, alignment) || offset > bytes.size() || stored > bytes.size() - offset)
    base::fail_input("{}: damaged: section '{}' at byte {} of {} bytes does not fit", c.what, s.name, offset,
                     stored);
  const auto padding = bytes.subspan(end, offset - end);
  if (std::any_of(padding.begin(), padding.end(), [](std::byte b) { return b != std::byte{0}; }))
    base::fail_input("{}: damaged: padding before section '{}' is not zero", c.what, s.name);
  s.stored = bytes.subspan(offset, stored);
  if (verify && base::hash64(s.stored) != checksum)
    base::fail_input("{}: damaged: the checksum of section '{}' does not match", c.what, s.name);
  end = offset + stored;
  return s;
}

}  // namespace

const Section* Container::find(std::string_view name) const {
  const auto found =
      std::find_if(sections.begin(), sections.end(), [&](const Section& s) { return s.name == name; });
  return found == sections.end() ? nullptr : &*found;
}

const Section& Container::at(std::string_view name) const {
  if (const auto* found = find(name)) return *found;
  base::fail_input("{}: damaged: no section '{}'", what, name);
}

RawBytes Container::decoded(const Section& section, std::uint64_t max_bytes) const {
  if (section.raw_bytes > max_bytes)
    base::fail_input("{}: section '{}' has {} bytes, at most {} are read", what, section.name,
                     section.raw_bytes, max_bytes);
  auto bytes = decode(section.coder, section.stored, section.raw_bytes,
                      fmt::format("{}: section '{}'", what, section.name));
  if (section.shuffle == 1) return bytes;
  RawBytes upright(section.raw_bytes);
  unshuffle(bytes.span(), section.shuffle, upright.span());
  return upright;
}

Container parse_container(std::span<const std::byte> bytes, std::string_view what, const ContainerKind& kind,
                          std::span<const std::string_view> known, const ReadLimits& limits) {
  const Header header = parse_header(bytes, what, kind, limits);
  Container c;
  c.what = what;
  c.required_features = header.required_features;
  c.header_bytes = kHeaderBytes + header.table_bytes + sizeof(std::uint64_t);
  base::ByteReader table(bytes.subspan(kHeaderBytes, header.table_bytes), c.what + ": section table");
  std::uint64_t end = c.header_bytes;
  std::unordered_set<std::string_view> names;
  c.sections.reserve(header.sections);
  for (std::uint32_t i = 0; i < header.sections; ++i) {
    const std::uint64_t before = end;
    c.sections.push_back(parse_entry(table, bytes, c, end, kind.alignment, limits.verify_checksums));
    const Section& s = c.sections.back();
    c.padding_bytes += end - before - s.stored.size();
    if (!names.insert(s.name).second) base::fail_input("{}: damaged: two sections '{}'", what, s.name);
    if (const auto* coder = coder_info(s.coder); coder && (coder->feature & ~header.required_features))
      base::fail_input("{}: damaged: section '{}' uses coder '{}', which the header does not declare", what,
                       s.name, coder->name);
    if (s.required && !is_known(s.name, known))
      base::fail_input("{}: needs section '{}', which this build does not know: use a newer Fairway", what,
                       s.name);
  }
  if (table.left() != 0)
    base::fail_input("{}: damaged: {} bytes behind the section table", what, table.left());
  if (end != bytes.size())
    base::fail_input("{}: damaged: {} bytes behind the last section", what, bytes.size() - end);
  return c;
}

void ContainerWriter::add_borrowed(std::string name, bool required, std::span<const std::byte> bytes) {
  base::check(!name.empty() && name.size() <= kMaxSectionName, "section name of {} bytes", name.size());
  Section section{std::move(name), required, Coder::raw, 1, bytes.size(), bytes};
  entries_.push_back({std::move(section), base::hash64(bytes)});
}

void ContainerWriter::add(std::string name, bool required, std::span<const std::byte> bytes,
                          const WriteOptions& options) {
  if (options.shuffle == 1) {
    add_coded(std::move(name), required, bytes.size(), encode_smaller(options.coder, bytes, options.level),
              1);
    return;
  }
  auto coded = encode_smaller(options.coder, shuffle(bytes, options.shuffle), options.level);
  if (coded.coder == Coder::raw) {
    coded.bytes.assign(bytes.begin(), bytes.end());
    add_coded(std::move(name), required, bytes.size(), std::move(coded), 1);
  } else {
    add_coded(std::move(name), required, bytes.size(), std::move(coded), options.shuffle);
  }
}

void ContainerWriter::add_coded(std::string name, bool required, std::uint64_t raw_bytes, Coded coded,
                                int shuffle) {
  base::check(shuffle >= 1 && shuffle <= kMaxStride, "byte shuffle of stride {}", shuffle);
  owned_.push_back(std::move(coded.bytes));
  add_borrowed(std::move(name), required, owned_.back());
  Section& section = entries_.back().section;
  section.coder = coded.coder;
  section.shuffle = shuffle;
  section.raw_bytes = raw_bytes;
  features_ |= coder_info(coded.coder)->feature | (shuffle > 1 ? kFeatureShuffle : 0);
}

std::vector<std::byte> ContainerWriter::header(std::uint64_t& file_bytes) const {
  std::uint64_t table_bytes = 0;
  for (const auto& e : entries_) table_bytes += kMinEntryBytes - 1 + e.section.name.size();
  base::check(table_bytes <= UINT32_MAX && entries_.size() <= ReadLimits{}.max_sections, "{} sections",
              entries_.size());
  std::uint64_t end = kHeaderBytes + table_bytes + sizeof(std::uint64_t);
  base::ByteWriter table;
  for (const auto& e : entries_) {
    const Section& s = e.section;
    const std::uint64_t offset = align_up(end, kind_.alignment);
    table.write(static_cast<std::uint8_t>(s.required ? kRequiredFlag : 0));
    table.write(static_cast<std::uint8_t>(static_cast<int>(s.coder) | (s.shuffle > 1 ? s.shuffle << 4 : 0)));
    table.write(static_cast<std::uint16_t>(s.name.size()));
    table.write_bytes(base::as_bytes(s.name));
    table.write(offset);
    table.write(static_cast<std::uint64_t>(s.stored.size()));
    table.write(s.raw_bytes);
    table.write(e.checksum);
    end = offset + s.stored.size();
  }
  file_bytes = end;
  base::ByteWriter out;
  out.write(kind_.magic);
  out.write(kFormatVersion);
  out.write(kind_.alignment);
  out.write(features_);
  out.write(std::uint64_t{0});  // optional features
  out.write(file_bytes);
  out.write(static_cast<std::uint32_t>(entries_.size()));
  out.write(static_cast<std::uint32_t>(table_bytes));
  out.write_bytes(table.bytes());
  out.write(base::hash64(out.bytes()));
  return std::move(out).take();
}

template <class Sink>
void ContainerWriter::emit(Sink&& sink) const {
  std::uint64_t file_bytes = 0;
  const auto head = header(file_bytes);
  sink(std::span<const std::byte>(head));
  std::uint64_t end = head.size();
  const std::array<std::byte, 64> zeros{};
  for (const auto& e : entries_) {
    const std::uint64_t offset = align_up(end, kind_.alignment);
    sink(std::span<const std::byte>(zeros).first(offset - end));
    sink(e.section.stored);
    end = offset + e.section.stored.size();
  }
  base::check(end == file_bytes, "container of {} bytes, {} planned", end, file_bytes);
}

std::vector<std::byte> ContainerWriter::to_bytes() const {
  base::ByteWriter out;
  emit([&](std::span<const std::byte> part) { out.write_bytes(part); });
  return std::move(out).take();
}

std::uint64_t ContainerWriter::write(const std::filesystem::path& path) const {
  base::AtomicFile file(path);
  emit([&](std::span<const std::byte> part) { file.write(part); });
  const std::uint64_t size = file.size();
  file.commit();
  return size;
}

}  // namespace fairway::artifact
