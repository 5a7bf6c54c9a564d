#pragma once
// The folder of a run: its files, who works in it, and whether there is something to go on with.

#include "fairway/base/folder_lock.h"
#include "fairway/pipeline/run.h"

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace fairway::pipeline {

struct RunFolder {
  std::filesystem::path root;
  std::filesystem::path recipe() const { return root / "recipe.toml"; }
  std::filesystem::path metrics() const { return root / "metrics.jsonl"; }
  std::filesystem::path checkpoint() const { return root / "checkpoint.fwck"; }
  std::filesystem::path replay() const { return root / "replay.json"; }
  std::filesystem::path artifact() const { return root / "model.fairway"; }
  std::filesystem::path sample() const { return root / "sample.txt"; }
  std::filesystem::path result() const { return root / "result.json"; }
  std::filesystem::path report() const { return root / "report.html"; }
};

/// Decides between a fresh run, going on, and a run that is done.
enum class Start { fresh, resume, finished };

struct OpenedFolder {
  Start start = Start::fresh;
  std::unique_ptr<base::FolderLock> lock;
};

/// Makes or enters the folder: checks that it may be used, that the recipe is the run's (and the replayed
/// one's), keeps others out, and removes what a killed writer left.
OpenedFolder open_run_folder(const RunFolder& folder, const RunOptions& options);

/// replay.json: the elapsed milliseconds at the beginning of each step.
std::string replay_json(std::span<const double> elapsed_ms);
std::vector<double> read_replay(const std::filesystem::path& path);

/// Does the file hold this recipe? Then it stays, with its comments.
bool holds_recipe(const std::filesystem::path& path, const Recipe& recipe);

/// An input error where `file` would be the checkpoint of a run that kept none.
void check_kept(const std::filesystem::path& file);
/// The checkpoint that is meant: the file, or that of a run folder. Kept, as above.
std::filesystem::path checkpoint_of(const std::filesystem::path& given);

}  // namespace fairway::pipeline
