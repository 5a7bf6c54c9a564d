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
  /// The same, already as text: one JSON object.
  void append(const std::string& line);
  /// Hands what is buffered to the system; append does so too.
  void flush();

 private:
  std::filesystem::path path_;
  std::ofstream out_;
};

/// All lines of a log; a last line cut short by a kill is left out, other damage is an input error.
std::vector<nlohmann::ordered_json> read_metrics(const std::filesystem::path& path);

/// Writes JSON with two spaces of indent, atomically.
void write_json(const std::filesystem::path& path, const nlohmann::ordered_json& json);

}  // namespace fairway::report
