#include "run/run_folder.h"

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/path.h"
#include "train/train_checkpoint.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <array>
#include <cmath>

namespace fairway::pipeline {

using base::fail_input;
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

/// Keys that say how to work, not what to compute: a run may go on with others. Micro-batches change
/// rounding, which the trainer says and marks.
constexpr std::array kFreeKeys = {"train.micro_batch",        "train.log_every",
                                  "train.validate_every",     "train.checkpoint_every",
                                  "train.checkpoint_seconds", "train.keep_checkpoints"};

std::vector<std::string> decisive_changes(const fs::path& recipe_file, const Recipe& now) {
  auto keys = changed_keys(load_recipe(recipe_file.string()).recipe, now);
  std::erase_if(keys, [](const std::string& key) { return std::ranges::count(kFreeKeys, key) > 0; });
  return keys;
}

/// Locks and what killed writers left (names with a dot) are no use of a folder.
bool is_used(const fs::path& folder) {
  if (!base::exists(folder)) return false;
  const fs::directory_iterator entries(folder), end;
  return std::any_of(entries, end,
                     [](const auto& e) { return !e.path().filename().string().starts_with('.'); });
}

/// What a run reads must be nothing that it writes.
void check_outputs(const RunFolder& folder, const Recipe& recipe) {
  std::vector<fs::path> inputs = {recipe.data.tokenizer, recipe.train.init};
  for (const auto* patterns : {&recipe.data.train, &recipe.data.validation})
    for (const auto& pattern : *patterns)
      for (auto& file : base::glob(pattern)) inputs.push_back(std::move(file));
  for (const auto& out : {folder.recipe(), folder.metrics(), folder.checkpoint(), folder.replay(),
                          folder.artifact(), folder.sample(), folder.result(), folder.report()})
    base::check_output("--out", out, inputs);
}

void check_replay(const RunFolder& other, const Recipe& recipe) {
  if (!base::exists(other.replay()))
    fail_input("--replay {}: no replay.json; give the folder of a run whose training is done",
               other.root.string());
  if (const auto keys = decisive_changes(other.recipe(), recipe); !keys.empty())
    fail_input("--replay {}: that run's recipe differs in {}", other.root.string(), fmt::join(keys, ", "));
  read_replay(other.replay());
}

}  // namespace

OpenedFolder open_run_folder(const RunFolder& folder, const RunOptions& o) {
  if (base::exists(folder.root) && !base::is_folder(folder.root))
    fail_input("--out {}: not a folder", folder.root.string());
  if (is_used(folder.root) && !o.resume)
    fail_input("--out {}: the folder is not empty; choose another or continue the run in it with --resume",
               folder.root.string());
  if (is_used(folder.root) && !base::exists(folder.recipe()))
    fail_input("--resume: there is no run in {} (no recipe.toml), and it is not empty; choose another folder",
               folder.root.string());
  if (o.replay) check_replay(RunFolder{*o.replay}, o.recipe.recipe);
  check_outputs(folder, o.recipe.recipe);
  base::make_writable_folder(folder.root);
  OpenedFolder opened;
  opened.lock = std::make_unique<base::FolderLock>(folder.root);
  remove_stale_files(folder.root);
  if (!base::exists(folder.recipe())) return opened;
  if (const auto keys = decisive_changes(folder.recipe(), o.recipe.recipe); !keys.empty())
    fail_input("--resume: the recipe differs from the run in {} in {}; use another --out",
               folder.root.string(), fmt::join(keys, ", "));
  if (is_finished(folder, o.train_only)) {
    opened.start = Start::finished;
  } else if (!stored_checkpoints(folder.checkpoint()).empty()) {
    opened.start = Start::resume;
  }
  return opened;
}

std::string replay_json(std::span<const double> elapsed_ms) {
  return Json{{"elapsed_ms", std::vector<double>(elapsed_ms.begin(), elapsed_ms.end())}}.dump() + "\n";
}

std::vector<double> read_replay(const fs::path& path) {
  const auto json = Json::parse(base::read_text_file(path), nullptr, false);
  if (!json.is_object() || !json.contains("elapsed_ms") || !json["elapsed_ms"].is_array())
    fail_input("{}: damaged: no list 'elapsed_ms'", path.string());
  std::vector<double> result;
  for (const auto& entry : json["elapsed_ms"]) {
    if (!entry.is_number() || !std::isfinite(entry.get<double>()) || entry.get<double>() < 0)
      fail_input("{}: damaged: elapsed_ms[{}] is not a time", path.string(), result.size());
    result.push_back(entry.get<double>());
  }
  return result;
}

bool holds_recipe(const fs::path& path, const Recipe& recipe) {
  return base::exists(path) && changed_keys(load_recipe(path.string()).recipe, recipe).empty();
}

}  // namespace fairway::pipeline
