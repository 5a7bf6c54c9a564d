#pragma once
// The whole of it: recipe to artifact, score and report, in one folder.
//   recipe.toml, metrics.jsonl, checkpoint.fwck (and checkpoint-STEP.fwck; none at the end with
//   train.keep_checkpoints = 0), replay.json, model.fairway,
//   sample.txt, result.json, report.html

#include "fairway/exec/engine.h"
#include "fairway/pipeline/recipe/recipe.h"

#include <filesystem>
#include <optional>
#include <string>

namespace fairway::pipeline {

struct RunOptions {
  LoadedRecipe recipe;
  std::filesystem::path out;
  bool resume = false;      ///< continue a run in `out`; on a finished one report and stop
  bool train_only = false;  ///< `fairway train`: stop after the checkpoint
  /// A finished run of the same recipe whose progress is repeated: its bytes, whatever the clock says now.
  std::optional<std::filesystem::path> replay;
  std::string build;  ///< command line, for the record
};

struct RunResult {
  std::string json;  ///< what result.json holds
  bool already_finished = false;
};

/// Throws `interrupted` after the current step was finished and saved. A used folder without `resume`, a
/// folder that another process is working in, or a changed recipe with `resume` is an input error (but for
/// keys that say how to work, not what to compute: micro-batches, logging, validation, checkpoints).
RunResult run(const RunOptions& options, exec::Engine& engine);

/// Packs a checkpoint (or that of a run folder) into an artifact; the recipe is the checkpoint's with `set`
/// applied to its quant keys. Where its quantiser calibrates (int*_gptq), the training text is read once more
/// as the recipe.toml beside the checkpoint says; an input error when that is not there or is other text.
RunResult pack_checkpoint(const std::filesystem::path& checkpoint, const std::filesystem::path& out,
                          const std::vector<std::string>& set, exec::Engine& engine);

struct ScoreRequest {
  std::filesystem::path model;        ///< artifact, checkpoint or a run's folder
  std::vector<std::string> patterns;  ///< texts or shards
  std::optional<int> stride;          ///< none: the recipe's; 0: plain only
  int window = 0;                     ///< tokens of a window; 0: the recipe's
  bool plain = false;                 ///< the plain score besides
  bool raw = false;                   ///< of a checkpoint: the raw weights
  std::optional<score::Tail> tail;    ///< none, here and below: the recipe's
  std::optional<decltype(ScoreConfig::rule)> rule;
  std::optional<data::SplitOn> split_on;
  std::string field;            ///< empty: the recipe's
  bool skip_bad_lines = false;  ///< or as the recipe says
  std::int64_t tokens = 0;      ///< only the first so many; 0: all
};
/// JSON with loss, tokens, bytes, bits per byte, rule and verdict for each kind of window asked for.
RunResult score_file(const ScoreRequest& request, exec::Engine& engine);

}  // namespace fairway::pipeline
