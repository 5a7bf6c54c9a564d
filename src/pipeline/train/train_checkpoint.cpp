#include "train/train_checkpoint.h"

#include "fairway/base/error.h"
#include "fairway/base/path.h"

#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <limits>
#include <optional>

namespace fairway::pipeline {

using base::fail_input;
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

/// Reads keys of one JSON object; every mistake is an input error that names the key.
class Reader {
 public:
  Reader(const Json& object, std::string what) : object_(object), what_(std::move(what)) {
    if (!object.is_object()) fail_input("{}: damaged: not an object", what_);
  }

  std::int64_t integer(const char* key, std::int64_t low = 0,
                       std::int64_t high = std::numeric_limits<std::int64_t>::max()) const {
    const auto& v = at(key);
    if (!v.is_number_integer()) wrong(key, "an integer");
    // Unsigned numbers above 2^63 turn negative and are caught by the range.
    const auto n = v.get<std::int64_t>();
    if (n < low || n > high) fail_input("{}: damaged: '{}' is out of range", what_, key);
    return n;
  }
  double number(const char* key, std::optional<double> otherwise = {}) const {
    if (otherwise && (!object_.contains(key) || object_[key].is_null())) return *otherwise;
    const auto& v = at(key);
    if (!v.is_number() || !std::isfinite(v.get<double>())) wrong(key, "a number");
    return v.get<double>();
  }
  std::string text(const char* key) const {
    const auto& v = at(key);
    if (!v.is_string()) wrong(key, "a text");
    return v.get<std::string>();
  }
  std::vector<std::string> texts(const char* key) const {
    std::vector<std::string> result;
    if (!object_.contains(key)) return result;
    if (!object_[key].is_array()) wrong(key, "a list of texts");
    for (const auto& item : object_[key]) {
      if (!item.is_string()) wrong(key, "a list of texts");
      result.push_back(item.get<std::string>());
    }
    return result;
  }
  const Json& at(const char* key) const {
    if (!object_.contains(key)) fail_input("{}: damaged: '{}' is missing", what_, key);
    return object_[key];
  }

 private:
  [[noreturn]] void wrong(const char* key, const char* type) const {
    fail_input("{}: damaged: '{}' is not {}", what_, key, type);
  }
  const Json& object_;
  std::string what_;
};

/// The step of NAME-STEP.fwck beside `latest` = NAME.fwck.
std::optional<std::int64_t> step_of(const fs::path& path, const fs::path& latest) {
  const auto name = path.stem().string(), prefix = latest.stem().string() + "-";
  if (path.extension() != latest.extension() || !name.starts_with(prefix)) return {};
  std::int64_t step = 0;
  const auto* end = name.data() + name.size();
  const auto [stop, error] = std::from_chars(name.data() + prefix.size(), end, step);
  if (error != std::errc() || stop != end || step < 0) return {};
  return step;
}

/// Checkpoints named by their step, newest first.
std::vector<std::pair<std::int64_t, fs::path>> numbered(const fs::path& latest) {
  std::vector<std::pair<std::int64_t, fs::path>> result;
  std::error_code ignored;
  for (const auto& entry :
       fs::directory_iterator(latest.parent_path().empty() ? "." : latest.parent_path(), ignored))
    if (const auto step = step_of(entry.path(), latest)) result.emplace_back(*step, entry.path());
  std::ranges::sort(result, [](const auto& a, const auto& b) { return a.first > b.first; });
  return result;
}

std::string text_at(const Json& object, const char* key) {
  return object.is_object() && object.contains(key) && object[key].is_string()
             ? object[key].get<std::string>()
             : "";
}

/// What became of the first file of two lists whose content differs, or "".
std::string changed_source(const Json& before, const Json& now) {
  for (std::size_t i = 0; i < std::max(before.size(), now.size()); ++i) {
    if (i >= now.size()) return text_at(before[i], "file") + " is missing";
    if (i >= before.size()) return text_at(now[i], "file") + " is new";
    if (text_at(before[i], "hash") != text_at(now[i], "hash"))
      return text_at(now[i], "file") + " has other content";
  }
  return "";
}

}  // namespace

std::string TrainMetadata::to_json() const {
  return Json{{"step", step},         {"seconds", seconds},
              {"loss", loss},         {"end", end},
              {"qat_step", qat_step}, {"loader", {{"step", loader.step}, {"position", loader.position}}},
              {"rows", rows},         {"build", build},
              {"device", device},     {"isa", isa},
              {"changes", changes},   {"data", Json::parse(data)}}
      .dump();
}

TrainMetadata TrainMetadata::parse(const std::string& json, const std::string& what) {
  const auto where = what + ": metadata";
  const auto root = Json::parse(json, nullptr, false);
  const Reader read(root, where);
  TrainMetadata m;
  m.step = read.integer("step");
  m.seconds = read.number("seconds");
  if (m.seconds < 0) fail_input("{}: damaged: 'seconds' is negative", where);
  m.loss = read.number("loss", 0.0);
  if (root.contains("end")) m.end = read.text("end");
  m.qat_step = root.contains("qat_step") ? read.integer("qat_step") : 0;
  const Reader loader(read.at("loader"), where + ".loader");
  m.loader.step = static_cast<std::uint64_t>(loader.integer("step"));
  m.loader.position = static_cast<std::uint64_t>(loader.integer("position"));
  m.rows = static_cast<int>(read.integer("rows", 1, std::numeric_limits<int>::max()));
  m.build = read.text("build");
  m.device = read.text("device");
  m.isa = read.text("isa");
  m.changes = read.texts("changes");
  if (root.contains("data")) m.data = root["data"].dump();
  return m;
}

void store_checkpoint(const fs::path& latest, std::int64_t step, int keep,
                      const std::function<void(const fs::path&)>& write) {
  write(latest);
  if (keep > 1) {
    auto named = latest;
    named.replace_filename(
        fmt::format("{}-{:08}{}", latest.stem().string(), step, latest.extension().string()));
    std::error_code error;
    fs::remove(named, error);
    fs::create_hard_link(latest, named, error);
    if (error) write(named);  // a file system without hard links
  }
  const auto all = numbered(latest);
  std::error_code ignored;
  const auto stay = keep <= 1 ? std::size_t{0} : static_cast<std::size_t>(keep);
  for (std::size_t i = stay; i < all.size(); ++i) fs::remove(all[i].second, ignored);
}

std::vector<fs::path> stored_checkpoints(const fs::path& latest) {
  std::vector<fs::path> result;
  if (base::exists(latest)) result.push_back(latest);
  for (const auto& [step, path] : numbered(latest)) result.push_back(path);
  return result;
}

void check_same_data(const std::string& before_text, const std::string& now_text, const std::string& what) {
  const auto before = Json::parse(before_text, nullptr, false), now = Json::parse(now_text, nullptr, false);
  const auto refuse = [&](const char* key, const std::string& change) {
    fail_input("{}: {}: {} since the run began; put back what it was or use another --out", what, key,
               change);
  };
  // The files first: they say more than a hash of everything.
  for (const auto& [list, key] :
       {std::pair("sources", "data.train"), {"validation_sources", "data.validation"}})
    if (before.contains(list) && now.contains(list) && before[list].is_array())
      if (const auto change = changed_source(before[list], now[list]); !change.empty()) refuse(key, change);
  for (const auto& [hash, key] : {std::pair("train_hash", "data.train"),
                                  {"validation_hash", "data.validation"},
                                  {"tokenizer", "data.tokenizer"}})
    if (before.contains(hash) && now.contains(hash) && before[hash] != now[hash])
      refuse(key, "it has other content");
}

void remove_checkpoints(const fs::path& latest) {
  std::error_code ignored;
  for (const auto& path : stored_checkpoints(latest)) fs::remove(path, ignored);
}

void remove_stale_files(const fs::path& folder) {
  std::error_code ignored;
  for (const auto& entry : fs::directory_iterator(folder, ignored)) {
    const auto name = entry.path().filename().string();
    if (name.starts_with('.') && name.ends_with(".tmp")) fs::remove(entry.path(), ignored);
  }
}

}  // namespace fairway::pipeline
