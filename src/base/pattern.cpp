#include "fairway/base/pattern.h"

#include "fairway/base/error.h"

namespace fairway::base {

bool matches(std::string_view pattern, std::string_view name) {
  std::size_t p = 0, n = 0;
  std::size_t star = std::string_view::npos, resume = 0;  // the last `*`, and where its match ends for now
  while (n < name.size()) {
    if (p < pattern.size() && pattern[p] == '*') {
      star = p++;
      resume = n;
    } else if (p < pattern.size() && (pattern[p] == '?' || pattern[p] == name[n])) {
      ++p;
      ++n;
    } else if (star != std::string_view::npos) {
      p = star + 1;
      n = ++resume;
    } else {
      return false;
    }
  }
  return pattern.find_first_not_of('*', p) == std::string_view::npos;
}

PatternValue parse_pattern_value(std::string_view key, std::string_view text, std::string_view example) {
  const auto equals = text.rfind('=');
  if (equals == std::string_view::npos || equals == 0 || equals + 1 == text.size())
    fail_input("{}: '{}' is not {}", key, text, example);
  return {std::string(text.substr(0, equals)), std::string(text.substr(equals + 1))};
}

}  // namespace fairway::base
