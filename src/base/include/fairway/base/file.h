#pragma once
// Files: whole reads, memory maps, and writes that appear complete or not at all.

#include <cstddef>
#include <cstdint>
#include <filesystem>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fairway::base {

/// The whole file. Throws an input error naming the path when it cannot be read or is over `max_bytes`.
std::vector<std::byte> read_file(const std::filesystem::path& path, std::uint64_t max_bytes = UINT64_MAX);
std::string read_text_file(const std::filesystem::path& path, std::uint64_t max_bytes = UINT64_MAX);

/// A read-only memory map of a whole file; an empty file maps to an empty span.
class MappedFile {
 public:
  explicit MappedFile(const std::filesystem::path& path);
  ~MappedFile();
  MappedFile(MappedFile&& other) noexcept;
  MappedFile& operator=(MappedFile&& other) noexcept;
  std::span<const std::byte> bytes() const noexcept { return {data_, size_}; }
  const std::filesystem::path& path() const noexcept { return path_; }

 private:
  std::filesystem::path path_;
  const std::byte* data_ = nullptr;
  std::size_t size_ = 0;
};

/// Writes beside the target and renames on commit (after fsync of file and folder); without a commit nothing
/// is left behind. A link is followed. Throws a failure naming the path and the system's reason (disk full,
/// file too large), and an input error for a name that cannot be a file's (a folder, a device, too long).
class AtomicFile {
 public:
  explicit AtomicFile(const std::filesystem::path& target);
  ~AtomicFile();
  AtomicFile(const AtomicFile&) = delete;
  AtomicFile& operator=(const AtomicFile&) = delete;
  void write(std::span<const std::byte> bytes);
  void write(std::string_view text);
  /// Overwrites bytes already written (a header that needs the total).
  void write_at(std::uint64_t offset, std::span<const std::byte> bytes);
  std::uint64_t size() const noexcept { return size_; }
  void commit();

 private:
  std::filesystem::path target_, temporary_;
  int descriptor_ = -1;
  std::uint64_t size_ = 0;
};

void write_file(const std::filesystem::path& path, std::span<const std::byte> bytes);
void write_file(const std::filesystem::path& path, std::string_view text);

/// Creates the folder (and parents). Throws an input error when it cannot be made or written to.
void make_writable_folder(const std::filesystem::path& path);

/// Files that match a shell pattern (`*`, `?`, `[...]` in any component), sorted; a plain path matches
/// itself.
std::vector<std::filesystem::path> glob(const std::string& pattern);

}  // namespace fairway::base
