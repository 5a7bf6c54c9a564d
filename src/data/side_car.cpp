#include "fairway/data/side_car.h"

#include <algorithm>

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/path.h"

namespace fairway::data {
namespace {

using base::fail_input;

constexpr std::string_view kMark = "_bytes";

/// The name before _NUMBER.bin; nothing when it does not end so.
std::optional<std::string> before_number(const std::string& name) {
  if (!name.ends_with(".bin")) return std::nullopt;
  const auto number = name.rfind('_');
  if (number == std::string::npos) return std::nullopt;
  const auto digits = std::string_view(name).substr(number + 1, name.size() - number - 5);
  if (digits.empty() || !std::ranges::all_of(digits, [](char c) { return c >= '0' && c <= '9'; }))
    return std::nullopt;
  return name.substr(0, number);
}

}  // namespace

std::optional<std::filesystem::path> side_car_of(const std::filesystem::path& shard) {
  const auto name = shard.filename().string();
  const auto stem = before_number(name);
  if (!stem || stem->ends_with(kMark)) return std::nullopt;
  return shard.parent_path() / (*stem + std::string(kMark) + name.substr(stem->size()));
}

bool is_side_car(const std::filesystem::path& file) {
  const auto stem = before_number(file.filename().string());
  return stem && stem->ends_with(kMark);
}

std::vector<std::filesystem::path> find_shards(const std::string& pattern) {
  auto files = base::glob(pattern);
  const bool any = !files.empty();
  std::erase_if(files, is_side_car);
  if (!files.empty()) return files;
  if (any)
    fail_input(
        "{}: names byte counts (_bytes_NUMBER.bin) only; name the token shards, their counts are found",
        pattern);
  fail_input("{}: no shards match; build them with `fairway data build`", pattern);
}

std::optional<std::vector<std::uint16_t>> read_side_car(const ShardReader& shard) {
  const auto path = side_car_of(shard.path());
  if (!path || !base::exists(*path)) return std::nullopt;
  const ShardReader counts(*path);
  if (counts.tokens().size() != shard.tokens().size())
    fail_input("{}: {} byte counts for the {} tokens of {}; build the shards again, or take the file away",
               path->string(), counts.tokens().size(), shard.tokens().size(),
               shard.path().filename().string());
  return std::vector<std::uint16_t>(counts.tokens().begin(), counts.tokens().end());
}

}  // namespace fairway::data
