#pragma once
// Side-cars of token shards: how many bytes of its text each token stands for, by the byte rule `surface`
// (docs/spec/caseops_tokenizer.md sections 6.1 and 8). A file in the shards' format with a count in each
// token's place; that of PREFIX_val_000000.bin is PREFIX_val_bytes_000000.bin.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <string>
#include <vector>

#include "fairway/data/shard.h"

namespace fairway::data {

/// The file beside a shard; nothing for a shard whose name does not end in _NUMBER.bin, which has none.
std::optional<std::filesystem::path> side_car_of(const std::filesystem::path& shard);
/// By the end of its name: _bytes_NUMBER.bin.
bool is_side_car(const std::filesystem::path& file);

/// The token shards that a pattern names, in lexicographic order, without side-cars. None is an input error.
std::vector<std::filesystem::path> find_shards(const std::string& pattern);

/// The counts beside a shard; nothing when there is no such file. Another length than the shard's is an input
/// error, as is a damaged file.
std::optional<std::vector<std::uint16_t>> read_side_car(const ShardReader& shard);

}  // namespace fairway::data
