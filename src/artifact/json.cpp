#include "json.h"

#include <set>
#include <vector>

#include "fairway/base/error.h"

namespace fairway::artifact {

nlohmann::json parse_json(std::string_view text, std::string_view what, int max_depth) {
  using Event = nlohmann::json::parse_event_t;
  std::vector<std::set<std::string>> keys;  // of the objects that are open
  auto watch = [&](int depth, Event event, nlohmann::json& value) {
    if (depth > max_depth) base::fail_input("{}: JSON is nested deeper than {} levels", what, max_depth);
    if (event == Event::object_start) keys.emplace_back();
    if (event == Event::object_end) keys.pop_back();
    if (event == Event::key && !keys.back().insert(value.get<std::string>()).second)
      base::fail_input("{}: JSON key '{}' stands twice", what, value.get<std::string>());
    return true;
  };
  auto value = nlohmann::json::parse(text.begin(), text.end(), watch, /*allow_exceptions=*/false);
  if (value.is_discarded()) base::fail_input("{}: bad JSON", what);
  return value;
}

std::string dump_json(const nlohmann::json& value) {
  return value.dump(-1, ' ', false, nlohmann::json::error_handler_t::replace);
}

}  // namespace fairway::artifact
