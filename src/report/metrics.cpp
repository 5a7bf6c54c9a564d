#include "fairway/report/metrics.h"

#include <cerrno>
#include <string>
#include <system_error>

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/path.h"

namespace fairway::report {

using nlohmann::ordered_json;

MetricsLog::MetricsLog(std::filesystem::path path, std::int64_t keep_until) : path_(std::move(path)) {
  std::string kept;
  if (keep_until > 0 && base::exists(path_))
    for (const auto& line : read_metrics(path_))
      if (line.value("step", 0.0) <= static_cast<double>(keep_until)) kept += line.dump() + '\n';
  base::write_file(path_, kept);
  out_.open(path_, std::ios::app);
  if (!out_) base::fail("{}: cannot be written ({})", path_.string(), std::generic_category().message(errno));
}

void MetricsLog::append(const ordered_json& line) {
  base::check(line.is_object() && line.contains("step"), "a metrics line without a step");
  out_ << line.dump() << std::endl;
  if (!out_) base::fail("{}: cannot be written ({})", path_.string(), std::generic_category().message(errno));
}

std::vector<ordered_json> read_metrics(const std::filesystem::path& path) {
  const auto text = base::read_text_file(path);
  std::vector<ordered_json> lines;
  std::size_t start = 0;
  while (start < text.size()) {
    const auto end = text.find('\n', start);
    if (end == std::string::npos) break;  // cut short by a kill
    auto line = ordered_json::parse(text.begin() + static_cast<std::ptrdiff_t>(start),
                                    text.begin() + static_cast<std::ptrdiff_t>(end), nullptr, false);
    if (!line.is_object())
      base::fail_input("{}: line {} is not a JSON object", path.string(), lines.size() + 1);
    lines.push_back(std::move(line));
    start = end + 1;
  }
  return lines;
}

std::string json_text(const ordered_json& json) {
  return json.dump(2, ' ', false, ordered_json::error_handler_t::replace) + "\n";
}

}  // namespace fairway::report
