#pragma once
// What a checkpoint says of a run beside its tensors, and the files that hold checkpoints.

#include "fairway/artifact/checkpoint.h"
#include "fairway/data/loader.h"

#include <cstdint>
#include <filesystem>
#include <functional>
#include <string>
#include <vector>

namespace fairway::pipeline {

/// The metadata section. Everything that decides the steps to come and is not a tensor.
struct TrainMetadata {
  std::int64_t step = 0;      ///< completed
  double seconds = 0;         ///< training time used
  double loss = 0;            ///< of the last step
  std::string end;            ///< what ended the training (names of TrainEnd); empty: it can go on
  std::int64_t qat_step = 0;  ///< first step with late QAT, counted from 1; 0: not yet
  data::LoaderState loader;
  int rows = 0;  ///< of a micro-batch
  std::string build, device, isa;
  std::vector<std::string>
      changes;              ///< what changed on the way so that bits differ from one uninterrupted run
  std::string data = "{}";  ///< the corpus' manifest, JSON

  std::string to_json() const;
  /// Input error naming `what` and the key that is missing, of another type or out of range.
  static TrainMetadata parse(const std::string& json, const std::string& what);
};

/// Writes `latest` and gives it a second name, NAME-STEP.fwck (a hard link), of which the newest `keep` stay
/// when `keep` is above 1. So `latest` never points at a file that is gone. `write` writes one file
/// atomically: killed at any instant, `latest` is the new checkpoint or the one before.
void store_checkpoint(const std::filesystem::path& latest, std::int64_t step, int keep,
                      const std::function<void(const std::filesystem::path&)>& write);

/// `latest` first, then the kept ones, newest first.
std::vector<std::filesystem::path> stored_checkpoints(const std::filesystem::path& latest);

/// An input error when a run that goes on would read other text, shards or another tokenizer than it began
/// with. `before` and `now` are manifests of a corpus; what an older one does not hold is not compared.
void check_same_data(const std::string& before, const std::string& now, const std::string& what);

/// Removes all of them.
void remove_checkpoints(const std::filesystem::path& latest);

/// Removes what writers that were killed left in a folder (".NAME.PID.N.tmp"). Only while nobody writes
/// there.
void remove_stale_files(const std::filesystem::path& folder);

}  // namespace fairway::pipeline
