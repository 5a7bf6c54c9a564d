#pragma once
// The folder of a run: who works in it, and whether there is something to go on with.

#include "fairway/base/folder_lock.h"
#include "fairway/pipeline/run/run.h"
#include "stages/run_files.h"

#include <filesystem>
#include <memory>
#include <span>
#include <string>
#include <vector>

namespace fairway::pipeline {

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

}  // namespace fairway::pipeline
