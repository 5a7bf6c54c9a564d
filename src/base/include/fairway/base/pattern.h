#pragma once
#include <string>
#include <string_view>

namespace fairway::base {

/// Whether `name` is what `pattern` describes: `*` stands for any characters, `?` for one.
bool matches(std::string_view pattern, std::string_view name);

/// The two sides of "PATTERN=VALUE"; the last '=' divides them.
struct PatternValue {
  std::string pattern, value;
};
/// An input error that names `key` and shows `example` where a side is empty or there is no '='.
PatternValue parse_pattern_value(std::string_view key, std::string_view text, std::string_view example);

}  // namespace fairway::base
