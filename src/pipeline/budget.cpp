#include "budget.h"

#include "fairway/base/error.h"
#include "fairway/pipeline/scoring.h"

#include <fmt/format.h>

#include <algorithm>

namespace fairway::pipeline {
namespace {

/// Seconds for all windows of a stride (0: plain), from scoring the first `windows` of them.
double forecast(const Recipe& recipe, graph::ParameterStore& weights, const Corpus& corpus, int stride,
                int windows, Engine& engine) {
  const std::int64_t window = recipe.model.window, step = stride > 0 ? stride : window;
  auto targets = static_cast<std::int64_t>(corpus.validation.tokens.size()) - 1;
  if (recipe.score.tokens > 0) targets = std::min(targets, recipe.score.tokens);
  auto part = recipe.score;
  part.tokens = std::min(targets, window + step * (windows - 1));
  const auto measured =
      score_text(recipe.model, weights, corpus.tokenizer, corpus.validation, part, stride, engine);
  const auto all = 1 + std::max<std::int64_t>(targets - window + step - 1, 0) / step;
  return measured.seconds / static_cast<double>(std::max<std::int64_t>(measured.windows, 1)) *
         static_cast<double>(all);
}

/// Few windows first; more where those were too quick to judge by.
double forecast(const Recipe& recipe, graph::ParameterStore& weights, const Corpus& corpus, int stride,
                Engine& engine) {
  constexpr int few = 32, many = 512;
  const double rough = forecast(recipe, weights, corpus, stride, few, engine);
  if (rough < 0.5 * recipe.budget.eval_seconds) return rough;
  return forecast(recipe, weights, corpus, stride, many, engine);
}

}  // namespace

ScorePlan plan_scores(const Recipe& recipe, graph::ParameterStore& weights, const Corpus& corpus,
                      Engine& engine) {
  ScorePlan plan{recipe.score.plain, recipe.score.stride, {}};
  const double allowed = recipe.budget.eval_seconds;
  if (allowed <= 0) return plan;
  const double plain = plan.plain ? forecast(recipe, weights, corpus, 0, engine) : 0;
  double sliding = plan.stride > 0 ? forecast(recipe, weights, corpus, plan.stride, engine) : 0;
  plan.forecast_seconds = plain + sliding;
  if (plain + sliding <= allowed) return plan;
  const auto expected = fmt::format("scoring is expected to take {:.0f} s, budget.eval_seconds is {:.0f}",
                                    plain + sliding, allowed);
  if (!recipe.budget.enforce) {
    engine.progress().warning(expected);
    return plan;
  }
  while (plan.stride > 0 && plain + sliding > allowed) {
    plan.stride = 2 * plan.stride < recipe.model.window ? 2 * plan.stride : 0;
    sliding = plan.stride > 0 ? forecast(recipe, weights, corpus, plan.stride, engine) : 0;
  }
  // Without sliding windows something must be scored.
  const double least = plan.stride == 0 && !plan.plain ? forecast(recipe, weights, corpus, 0, engine) : plain;
  if (plan.stride == 0) plan.plain = true;
  if (least + sliding > allowed)
    base::fail("{}, and plain windows alone take {:.0f} s; score less with score.tokens", expected, least);
  plan.forecast_seconds = least + sliding;
  engine.progress().warning(
      fmt::format("{}: {}", expected,
                  plan.stride > 0 ? fmt::format("stride {} instead of {}", plan.stride, recipe.score.stride)
                                  : "plain windows only"));
  return plan;
}

bool BudgetReport::enter(const char* key, nlohmann::ordered_json used, double allowed) {
  const auto amount = used.get<double>();
  json_[key] = {{"used", std::move(used)}};
  if (allowed <= 0) return true;
  const bool ok = amount <= allowed;
  json_[key]["allowed"] = allowed;
  json_[key]["ok"] = ok;
  if (ok) return true;
  over_.push_back(fmt::format("budget.{}", key));
  engine_.progress().warning(fmt::format("budget.{}: {:.0f} used, {:.0f} allowed", key, amount, allowed));
  return false;
}

void BudgetReport::train_seconds(double used) { enter("train_seconds", used, recipe_.budget.train_seconds); }

void BudgetReport::eval_seconds(double used, const ScorePlan& plan) {
  enter("eval_seconds", used, recipe_.budget.eval_seconds);
  auto& entry = json_["eval_seconds"];
  if (plan.forecast_seconds) entry["forecast"] = *plan.forecast_seconds;
  if (plan.stride != recipe_.score.stride) entry["stride"] = plan.stride;
}

void BudgetReport::artifact_bytes(std::int64_t used) {
  const auto allowed = recipe_.budget.artifact_bytes;
  if (!enter("artifact_bytes", used, static_cast<double>(allowed)) && recipe_.budget.enforce)
    base::fail(
        "the artifact has {} bytes with its code, budget.artifact_bytes allows {}: prune more, use fewer "
        "bits or a "
        "smaller model, or set budget.enforce = false",
        used, allowed);
}

}  // namespace fairway::pipeline
