#pragma once
// Token shards in the challenge's format (docs/spec/training.md section 1):
//   bytes 0..1023  256 little-endian int32: [0] = 20240520, [1] = 1, [2] = token count n, rest 0
//   bytes 1024..   n little-endian uint16 token ids;  file size = 1024 + 2n

#include <cstdint>
#include <filesystem>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fairway/base/file.h"

namespace fairway::data {

inline constexpr std::int32_t kShardMagic = 20240520;
inline constexpr std::int32_t kShardVersion = 1;
inline constexpr std::uint64_t kShardHeaderBytes = 1024;

/// The tokens inside a shard file's bytes (they point into `bytes`, which must be 2-byte aligned). Throws an
/// input error naming `name`: truncated, wrong magic, wrong version, size that does not match the header.
std::span<const std::uint16_t> parse_shard(std::span<const std::byte> bytes, const std::string& name);

/// Throws an input error naming the first token id that is not below `vocab_size`, and where it stands.
void check_token_range(std::span<const std::uint16_t> tokens, std::int32_t vocab_size,
                       const std::string& name);

/// One shard, memory-mapped. Immutable, safe to read from many threads.
class ShardReader {
 public:
  explicit ShardReader(const std::filesystem::path& path);
  std::span<const std::uint16_t> tokens() const noexcept { return tokens_; }
  const std::filesystem::path& path() const noexcept { return file_.path(); }
  void check_vocab(std::int32_t vocab_size) const { check_token_range(tokens_, vocab_size, path().string()); }

 private:
  base::MappedFile file_;
  std::span<const std::uint16_t> tokens_;
};

/// Writes one shard; it appears complete on finish() or not at all.
class ShardWriter {
 public:
  explicit ShardWriter(std::filesystem::path path);
  void write(std::span<const std::uint16_t> tokens);
  std::uint64_t tokens() const noexcept { return count_; }
  const std::filesystem::path& path() const noexcept { return path_; }
  void finish();

 private:
  std::filesystem::path path_;
  base::AtomicFile file_;
  std::uint64_t count_ = 0;
};

}  // namespace fairway::data
