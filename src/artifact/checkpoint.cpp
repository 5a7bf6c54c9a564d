#include "fairway/artifact/checkpoint.h"

#include <algorithm>
#include <cstring>
#include <unordered_map>
#include <unordered_set>

#include "container.h"
#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "json.h"
#include "sections.h"
#include "weights.h"

namespace fairway::artifact {
namespace {

/// Names and shapes; the values are sections of their own, so that they can be mapped.
std::vector<std::byte> encode_index(const CheckpointContents& contents) {
  base::ByteWriter out;
  std::unordered_set<std::string_view> tensors, buffers;
  out.write(static_cast<std::uint32_t>(contents.tensors.size()));
  out.write(static_cast<std::uint32_t>(contents.buffers.size()));
  for (const auto& t : contents.tensors) {
    check_tensor_name(t.name, "checkpoint tensor", {});
    const auto n = checked_elements(t.shape, 1, UINT64_MAX / sizeof(float), t.name);
    base::check(n == t.values.size(), "tensor '{}' of {} elements holds {} values", t.name, n,
                t.values.size());
    base::check(tensors.insert(t.name).second, "two tensors '{}'", t.name);
    out.write_string(t.name);
    out.write(static_cast<std::uint8_t>(t.shape.size()));
    for (std::int64_t extent : t.shape) out.write(extent);
  }
  for (const auto& b : contents.buffers) {
    check_tensor_name(b.name, "checkpoint buffer", {});
    base::check(buffers.insert(b.name).second, "two buffers '{}'", b.name);
    out.write_string(b.name);
  }
  return std::move(out).take();
}

/// Finds sections by name in constant time: a checkpoint has hundreds of them.
class SectionMap {
 public:
  explicit SectionMap(const Container& c) : container_(c) {
    for (const auto& s : c.sections) map_.emplace(s.name, &s);
  }
  const Section* find(const std::string& name) const {
    const auto found = map_.find(name);
    return found == map_.end() ? nullptr : found->second;
  }
  const Section& at(const std::string& name) const {
    if (const auto* section = find(name)) return *section;
    base::fail_input("{}: damaged: no section '{}'", container_.what, name);
  }
  /// Bytes of a section that is mapped, not decoded.
  std::span<const std::byte> mapped(const std::string& name) const {
    const Section& s = at(name);
    if (s.coder != Coder::raw || s.raw_bytes != s.stored.size())
      base::fail_input("{}: damaged: section '{}' is not stored raw", container_.what, name);
    return s.stored;
  }

 private:
  const Container& container_;
  std::unordered_map<std::string_view, const Section*> map_;
};

CheckpointTensor read_tensor(base::ByteReader& index, const SectionMap& sections, const std::string& what,
                             const ReadLimits& limits) {
  CheckpointTensor t;
  t.name = index.read_string(limits.max_name);
  check_tensor_name(t.name, what, limits);
  const auto rank = index.read<std::uint8_t>();
  if (rank > kMaxRank)
    base::fail_input("{}: tensor '{}' of rank {}, at most {}", what, t.name, rank, kMaxRank);
  for (int axis = 0; axis < rank; ++axis) t.shape.push_back(index.read<std::int64_t>());
  const auto stored = sections.mapped(kTensorPrefix + t.name);
  const auto n =
      checked_elements(t.shape, 1, UINT64_MAX / sizeof(float), fmt::format("{}: tensor '{}'", what, t.name));
  if (stored.size() != n * sizeof(float))
    base::fail_input("{}: tensor '{}' of {} elements has {} bytes", what, t.name, n, stored.size());
  t.values = {reinterpret_cast<const float*>(stored.data()), static_cast<std::size_t>(n)};
  return t;
}

template <class T>
const T* find_named(const std::vector<T>& list, std::string_view name) {
  const auto found = std::find_if(list.begin(), list.end(), [&](const T& item) { return item.name == name; });
  return found == list.end() ? nullptr : &*found;
}

}  // namespace

std::uint64_t write_checkpoint(const std::filesystem::path& path, const CheckpointContents& contents) {
  parse_json(contents.metadata, "checkpoint metadata", kMaxJsonDepth);
  const auto index = encode_index(contents);
  ContainerWriter writer(kCheckpointKind);
  writer.add_borrowed(kIndex, true, index);
  writer.add_borrowed(kMetadata, true, base::as_bytes(contents.metadata));
  writer.add_borrowed(kRecipe, true, base::as_bytes(contents.recipe_text));
  std::vector<std::byte> tokenizer;
  if (contents.tokenizer) {
    tokenizer = encode_tokenizer(*contents.tokenizer);
    writer.add_borrowed(kTokenizer, true, tokenizer);
  }
  for (const auto& t : contents.tensors)
    writer.add_borrowed(kTensorPrefix + t.name, true, std::as_bytes(t.values));
  for (const auto& b : contents.buffers) writer.add_borrowed(kBufferPrefix + b.name, true, b.bytes);
  return writer.write(path);
}

Checkpoint Checkpoint::parse(std::span<const std::byte> bytes, std::string_view what,
                             const ReadLimits& limits) {
  base::check(reinterpret_cast<std::uintptr_t>(bytes.data()) % kCheckpointKind.alignment == 0,
              "checkpoint bytes must start at a multiple of {}", kCheckpointKind.alignment);
  const Container c = parse_container(bytes, what, kCheckpointKind, kCheckpointSections, limits);
  const SectionMap sections(c);
  const auto text = [&](const char* name) {
    const auto raw = c.decoded(sections.at(name), limits.max_json);
    return decode_text(raw.span(), fmt::format("{}: section '{}'", what, name));
  };
  Checkpoint out;
  out.contents_.metadata = text(kMetadata);
  parse_json(out.contents_.metadata, fmt::format("{}: metadata", what), kMaxJsonDepth);
  out.contents_.recipe_text = text(kRecipe);
  if (const auto* s = sections.find(kTokenizer))
    out.contents_.tokenizer = decode_tokenizer(c.decoded(*s, limits.max_tokenizer).span(),
                                               fmt::format("{}: section '{}'", what, kTokenizer), limits);
  const std::string index_name = fmt::format("{}: index", what);
  base::ByteReader index(sections.mapped(kIndex), index_name);
  const auto tensors = index.read<std::uint32_t>();
  const auto buffers = index.read<std::uint32_t>();
  std::unordered_set<std::string> names;
  for (std::uint32_t i = 0; i < tensors; ++i) {
    out.contents_.tensors.push_back(read_tensor(index, sections, index_name, limits));
    const auto& name = out.contents_.tensors.back().name;
    if (!names.insert(kTensorPrefix + name).second)
      base::fail_input("{}: two tensors '{}'", index_name, name);
  }
  for (std::uint32_t i = 0; i < buffers; ++i) {
    const auto name = index.read_string(limits.max_name);
    if (!names.insert(kBufferPrefix + name).second)
      base::fail_input("{}: two buffers '{}'", index_name, name);
    out.contents_.buffers.push_back({name, sections.mapped(kBufferPrefix + name)});
  }
  if (index.left() != 0) base::fail_input("{}: {} bytes too many", index_name, index.left());
  for (const auto& s : c.sections)
    if ((s.name.starts_with(kTensorPrefix) || s.name.starts_with(kBufferPrefix)) && !names.contains(s.name))
      base::fail_input("{}: section '{}' is not in the index", what, s.name);
  return out;
}

Checkpoint Checkpoint::open(const std::filesystem::path& path, const ReadLimits& limits) {
  base::MappedFile file(path);
  Checkpoint out = parse(file.bytes(), path.string(), limits);
  out.file_ = std::move(file);  // the map stays where it is
  return out;
}

const CheckpointTensor* Checkpoint::tensor(std::string_view name) const {
  return find_named(contents_.tensors, name);
}
const CheckpointBuffer* Checkpoint::buffer(std::string_view name) const {
  return find_named(contents_.buffers, name);
}

FileKind file_kind(std::span<const std::byte> bytes) {
  const auto starts = [&](const ContainerKind& kind) {
    return bytes.size() >= kind.magic.size() &&
           std::memcmp(bytes.data(), kind.magic.data(), kind.magic.size()) == 0;
  };
  if (starts(kArtifactKind)) return FileKind::artifact;
  return starts(kCheckpointKind) ? FileKind::checkpoint : FileKind::other;
}

FileKind file_kind(const std::filesystem::path& path) {
  const base::MappedFile file(path);
  return file_kind(file.bytes());
}

}  // namespace fairway::artifact
