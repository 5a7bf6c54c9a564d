#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <string_view>

namespace fairway::base {

/// XXH3, 64 bits. The checksum of all our files.
std::uint64_t hash64(std::span<const std::byte> bytes, std::uint64_t seed = 0);
std::uint64_t hash64(std::string_view text, std::uint64_t seed = 0);
/// Sixteen lower-case hexadecimal digits.
std::string hex64(std::uint64_t value);

}  // namespace fairway::base
