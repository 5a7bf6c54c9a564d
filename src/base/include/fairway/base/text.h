#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>

namespace fairway::base {

/// Position of the first byte that is not valid UTF-8 (overlong, surrogate, > U+10FFFF), or nothing.
std::optional<std::size_t> invalid_utf8_at(std::string_view text);

/// Valid UTF-8, for JSON, TOML and messages: bytes that are none (in a file's name) as \xE9.
std::string printable(std::string_view text);

/// The candidate closest to `word` (edit distance at most 1/3 of its length, at least 2), for "did you mean";
/// or empty.
std::string closest_match(std::string_view word, std::span<const std::string> candidates);

/// " (did you mean 'x'?)" or "".
std::string did_you_mean(std::string_view word, std::span<const std::string> candidates);

/// 12,345,678
std::string with_commas(std::int64_t value);
/// 1.5 KiB, 20.3 MiB
std::string human_bytes(std::uint64_t bytes);
/// 1m05s, 2h03m
std::string human_seconds(double seconds);

}  // namespace fairway::base
