#pragma once
// metrics.jsonl: one JSON object for each logged step.

#include <cstdint>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace fairway::report {

/// Appends lines; each is flushed, so that a killed run keeps what it logged. Every line has the key "step".
class MetricsLog {
 public:
  /// Starts a new log, or continues one: of an old log the lines with "step" up to `keep_until` stay (a run
  /// that resumes from a checkpoint logs the later steps again). Throws a failure naming the path.
  explicit MetricsLog(std::filesystem::path path, std::int64_t keep_until = 0);
  void append(const nlohmann::ordered_json& line);

 private:
  std::filesystem::path path_;
  std::ofstream out_;
};

/// All lines of a log; a last line cut short by a kill is left out, other damage is an input error.
std::vector<nlohmann::ordered_json> read_metrics(const std::filesystem::path& path);

/// JSON as files and standard output have it: two spaces of indent, what is no UTF-8 replaced (a sample may
/// end in the middle of a character), a line end.
std::string json_text(const nlohmann::ordered_json& json);

}  // namespace fairway::report
