#pragma once
// Test-time training of a model on the text it is scored on, by the recipe's [adapt] table.

#include "fairway/adapt/evaluate.h"
#include "fairway/exec/engine.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/pipeline/stages/corpus.h"

#include <filesystem>
#include <nlohmann/json_fwd.hpp>
#include <optional>
#include <string>
#include <vector>

namespace fairway::pipeline {

/// What a verification asks for besides (see adapt::EvaluateOptions).
struct AdaptExtras {
  bool keep_scores = false;
  std::optional<std::int64_t> until = {};
  int audit_windows = 0;
  bool enforce_budget = true;  ///< false: a recipe's enforced budget is only reported
};

struct AdaptResult {
  adapt::EvaluateResult run;
  std::string kind;  ///< "plain" or "sliding"
  nlohmann::ordered_json to_json()
      const;  ///< the score's keys with "verdict", then "training", "forecast_seconds", ...
};

/// Adapts a copy of `weights` to `text` and scores it, with the recipe's [adapt], [score] and budget: windows
/// of score.stride (0: side by side), score.tail, score.tokens. Errors as adapt::evaluate.
AdaptResult adapt_and_score(const Recipe& recipe, const graph::ParameterStore& weights,
                            const text::Tokenizer& tokenizer, const ScoredText& text, exec::Engine& engine,
                            const AdaptExtras& extras = {});

/// A model in a file (or a run's folder) with the [adapt], [score] and [budget] of a recipe.
struct AdaptRequest {
  std::filesystem::path model;        ///< artifact, checkpoint, or a run's folder
  std::vector<std::string> patterns;  ///< texts or shards; empty: the run's own validation text
  std::string recipe;                 ///< "": the model's own
  std::vector<std::string> set;       ///< --set
  std::int64_t tokens = 0;            ///< only the first so many; 0: the recipe's
};

/// What a request names, opened.
struct AdaptSubject {
  Recipe recipe;
  text::Tokenizer tokenizer;
  std::unique_ptr<graph::ParameterStore> weights;
  ScoredText text;
  std::string source;
};
AdaptSubject open_subject(const AdaptRequest& request, exec::Engine& engine);

/// JSON of `fairway adapt`: "score" (the model as it is) and "adapted".
std::string adapt_file(const AdaptRequest& request, exec::Engine& engine);

}  // namespace fairway::pipeline
