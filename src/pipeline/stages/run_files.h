#pragma once
// The files in the folder of a run.

#include <filesystem>

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

/// `train` writes a result too; for `run` that is a run whose training is done.
bool is_finished(const RunFolder& folder, bool train_only);

/// An input error where `file` would be the checkpoint of a run that kept none.
void check_kept(const std::filesystem::path& file);
/// The checkpoint that is meant: the file, or that of a run folder. Kept, as above.
std::filesystem::path checkpoint_of(const std::filesystem::path& given);

}  // namespace fairway::pipeline
