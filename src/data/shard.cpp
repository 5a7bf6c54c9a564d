#include "fairway/data/shard.h"

#include <algorithm>
#include <array>
#include <cstring>
#include <limits>

#include "fairway/base/error.h"

namespace fairway::data {

using base::fail_input;

std::span<const std::uint16_t> parse_shard(std::span<const std::byte> bytes, const std::string& name) {
  if (bytes.size() < kShardHeaderBytes)
    fail_input("{}: truncated shard ({} bytes, the header alone has {}); copy it again", name, bytes.size(),
               kShardHeaderBytes);
  std::array<std::int32_t, 3> header;
  std::memcpy(header.data(), bytes.data(), sizeof header);
  const auto [magic, version, count] = header;
  if (magic != kShardMagic)
    fail_input("{}: not a token shard (magic {}, expected {}); build shards with `fairway data build`", name,
               magic, kShardMagic);
  if (version != kShardVersion)
    fail_input("{}: shard version {} is not supported (expected {})", name, version, kShardVersion);
  if (count < 0) fail_input("{}: damaged shard header ({} tokens)", name, count);
  const std::uint64_t expected = kShardHeaderBytes + 2 * static_cast<std::uint64_t>(count);
  if (bytes.size() < expected)
    fail_input("{}: truncated shard ({} bytes, {} tokens need {}); copy it again", name, bytes.size(), count,
               expected);
  if (bytes.size() > expected)
    fail_input("{}: shard has {} bytes but its {} tokens need {}; it is damaged or not a shard", name,
               bytes.size(), count, expected);
  const std::byte* tokens = bytes.data() + kShardHeaderBytes;
  base::check(reinterpret_cast<std::uintptr_t>(tokens) % alignof(std::uint16_t) == 0,
              "{}: shard bytes are not aligned", name);
  return {reinterpret_cast<const std::uint16_t*>(tokens), static_cast<std::size_t>(count)};
}

void check_token_range(std::span<const std::uint16_t> tokens, std::int32_t vocab_size,
                       const std::string& name) {
  if (vocab_size > std::numeric_limits<std::uint16_t>::max()) return;
  // The maximum of a block first (this vectorises), the position only when something is wrong.
  constexpr std::size_t kBlock = 1 << 16;
  for (std::size_t begin = 0; begin < tokens.size(); begin += kBlock) {
    const auto block = tokens.subspan(begin, std::min(kBlock, tokens.size() - begin));
    std::uint16_t highest = 0;
    for (const std::uint16_t token : block) highest = std::max(highest, token);
    if (highest < vocab_size) continue;
    const auto bad =
        std::find_if(block.begin(), block.end(), [&](std::uint16_t token) { return token >= vocab_size; });
    fail_input(
        "{}: token id {} at position {} is not below the vocabulary of {}; these shards belong to another "
        "tokenizer",
        name, *bad, begin + static_cast<std::size_t>(bad - block.begin()), vocab_size);
  }
}

ShardReader::ShardReader(const std::filesystem::path& path)
    : file_(path), tokens_(parse_shard(file_.bytes(), path.string())) {}

ShardWriter::ShardWriter(std::filesystem::path path) : path_(std::move(path)), file_(path_) {
  const std::array<std::byte, kShardHeaderBytes> header{};
  file_.write(header);
}

void ShardWriter::write(std::span<const std::uint16_t> tokens) {
  file_.write(std::as_bytes(tokens));
  count_ += tokens.size();
}

void ShardWriter::finish() {
  if (count_ > static_cast<std::uint64_t>(std::numeric_limits<std::int32_t>::max()))
    fail_input("{}: {} tokens do not fit one shard; give a smaller shard size", path_.string(), count_);
  const std::array<std::int32_t, 3> header = {kShardMagic, kShardVersion, static_cast<std::int32_t>(count_)};
  file_.write_at(0, std::as_bytes(std::span(header)));
  file_.commit();
}

}  // namespace fairway::data
