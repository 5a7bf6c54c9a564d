#pragma once
// The container of artifacts and checkpoints: header, section table, sections. Byte by byte: docs/format.md.

#include <array>
#include <cstddef>
#include <cstdint>
#include <deque>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "coder.h"
#include "fairway/artifact/limits.h"
#include "fairway/base/file.h"

namespace fairway::artifact {

/// What tells the two kinds of files apart.
struct ContainerKind {
  std::array<char, 8> magic;
  std::string_view name;    ///< in errors: "artifact"
  std::uint32_t alignment;  ///< each section starts at a multiple of it
};
// As PNG's signature: a byte above 127, line ends and an end-of-file mark give text-mode copies away.
inline constexpr ContainerKind kArtifactKind{
    {'\x89', 'F', 'W', 'A', '\r', '\n', '\x1a', '\n'}, "artifact", 1};
inline constexpr ContainerKind kCheckpointKind{
    {'\x89', 'F', 'W', 'C', '\r', '\n', '\x1a', '\n'}, "checkpoint", 64};

inline constexpr std::uint32_t kFormatVersion = 1;
/// Required features (docs/format.md): readers of before them refuse the file instead of misreading it.
inline constexpr std::uint64_t kFeatureBrotli = 1u << 0;  ///< a section is coded with brotli
inline constexpr std::uint64_t kFeatureLzma = 1u << 1;    ///< a section is coded with lzma
inline constexpr std::uint64_t kFeaturePlanes =
    1u << 2;  ///< halves and floats of `weights` stand in byte planes
inline constexpr std::uint64_t kFeatureShuffle = 1u << 3;  ///< a section is byte-shuffled
inline constexpr std::uint64_t kFeatureGroups = 1u << 4;  ///< integers of `weights` stand in streams by group
inline constexpr std::uint64_t kKnownFeatures =
    kFeatureBrotli | kFeatureLzma | kFeaturePlanes | kFeatureShuffle | kFeatureGroups;
inline constexpr std::size_t kHeaderBytes = 48;
inline constexpr std::size_t kMaxSectionName = 271;  ///< a tensor's name and a prefix of at most 16 bytes

/// A section as it stands in the file; `stored` points into the file's bytes.
struct Section {
  std::string name;
  bool required = false;  ///< a reader that does not know the name must refuse the file
  Coder coder = Coder::raw;
  int shuffle = 1;  ///< stride of the byte shuffle before the coder; 1: none
  std::uint64_t raw_bytes = 0;
  std::span<const std::byte> stored;
};

struct Container {
  std::string what;  ///< names the file in errors
  std::vector<Section> sections;
  std::uint64_t required_features = 0;
  std::uint64_t header_bytes = 0;  ///< header, table and their checksum
  std::uint64_t padding_bytes = 0;

  const Section* find(std::string_view name) const;  ///< null when absent
  const Section& at(std::string_view name) const;    ///< an input error when absent
  /// Decoded bytes of a section of at most `max_bytes`.
  RawBytes decoded(const Section& section, std::uint64_t max_bytes) const;
};

/// Checks everything but the sections' content: lengths, checksums, features, canonical layout, unique names.
/// An input error for a required section that is neither in `known` nor starts with one of its entries that
/// end in ':'.
Container parse_container(std::span<const std::byte> bytes, std::string_view what, const ContainerKind& kind,
                          std::span<const std::string_view> known, const ReadLimits& limits);

class ContainerWriter {
 public:
  explicit ContainerWriter(const ContainerKind& kind) : kind_(kind) {}
  /// Adds a section that is stored as it is; `bytes` are borrowed until the end.
  void add_borrowed(std::string name, bool required, std::span<const std::byte> bytes);
  /// Adds a section coded as the options say, or raw where that is not longer.
  void add(std::string name, bool required, std::span<const std::byte> bytes, const WriteOptions& options);
  /// Adds a section of `raw_bytes` bytes that is coded already, after a shuffle of this stride.
  void add_coded(std::string name, bool required, std::uint64_t raw_bytes, Coded coded, int shuffle);
  /// Declares a required feature; those of coders in use declare themselves.
  void require_feature(std::uint64_t feature) { features_ |= feature; }

  std::vector<std::byte> to_bytes() const;
  std::uint64_t write(const std::filesystem::path& path) const;  ///< atomically; the file's size

 private:
  struct Entry {
    Section section;
    std::uint64_t checksum = 0;
  };
  std::vector<std::byte> header(std::uint64_t& file_bytes) const;
  template <class Sink>
  void emit(Sink&& sink) const;

  ContainerKind kind_;
  std::uint64_t features_ = 0;
  std::vector<Entry> entries_;
  std::deque<std::vector<std::byte>> owned_;
};

}  // namespace fairway::artifact
