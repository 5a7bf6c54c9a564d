#pragma once
// What a run may use against what it uses.

#include "fairway/exec/engine.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/pipeline/stages/corpus.h"

#include <nlohmann/json.hpp>

#include <functional>

namespace fairway::pipeline {

/// How the artifact is scored, and how long that should take.
struct ScorePlan {
  bool plain = true;
  int stride = 0;                          ///< of sliding windows; 0: none
  std::optional<double> forecast_seconds;  ///< where budget.eval_seconds asks for one
};

/// What of `asked` fits into `allowed` seconds, by what a stride takes (0: plain windows): wider strides,
/// then plain windows alone, which are kept even when they take too long (`forecast_seconds` says so).
ScorePlan shortened(const ScorePlan& asked, int window, double allowed,
                    const std::function<double(int stride)>& seconds);

/// The recipe's scores; where they are forecast to exceed budget.eval_seconds, measured on some windows of
/// the text itself: a warning, or with budget.enforce wider strides, then no sliding windows (each is still a
/// valid score of the whole text), and a failure when plain windows alone are too much.
ScorePlan plan_scores(const Recipe& recipe, graph::ParameterStore& weights, const Corpus& corpus,
                      exec::Engine& engine);

/// Collects what was used; result.json's "budget".
class BudgetReport {
 public:
  BudgetReport(const Recipe& recipe, exec::Engine& engine) : recipe_(recipe), engine_(engine) {}
  /// Each warns when it is over.
  void train_seconds(double used);
  void eval_seconds(double used, const ScorePlan& plan);
  /// Throws a failure when over with budget.enforce, after it was entered.
  void artifact_bytes(std::int64_t used);
  const nlohmann::ordered_json& json() const { return json_; }
  /// Names of the budgets that were exceeded ("budget.train_seconds").
  const std::vector<std::string>& over() const { return over_; }

 private:
  bool enter(const char* key, nlohmann::ordered_json used, double allowed);
  const Recipe& recipe_;
  exec::Engine& engine_;
  nlohmann::ordered_json json_ = nlohmann::ordered_json::object();
  std::vector<std::string> over_;
};

}  // namespace fairway::pipeline
