#pragma once
// JSON from untrusted files.

#include <cstdint>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

namespace fairway::artifact {

/// Parses `text`; an input error that names `what` for bad JSON, a repeated key or nesting deeper than
/// `max_depth`.
nlohmann::json parse_json(std::string_view text, std::string_view what, int max_depth);

/// Compact text with sorted keys; bytes that are not UTF-8 are replaced.
std::string dump_json(const nlohmann::json& value);

}  // namespace fairway::artifact
