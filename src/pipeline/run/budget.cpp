#include "run/budget.h"

#include "fairway/base/error.h"
#include "fairway/pipeline/stages/scoring.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>

namespace fairway::pipeline {
namespace {

/// Seconds for all windows of a stride (0: plain), from scoring the first `windows` of them.
double forecast(const Recipe& recipe, graph::ParameterStore& weights, const Corpus& corpus, int stride,
                int windows, exec::Engine& engine) {
  const std::int64_t window = evaluated(recipe).window, step = stride > 0 ? stride : window;
  auto targets = static_cast<std::int64_t>(corpus.validation.tokens.size()) - 1;
  if (recipe.score.tokens > 0) targets = std::min(targets, recipe.score.tokens);
  auto part = recipe.score;
  part.tokens = std::min(targets, window + step * (windows - 1));
  const auto measured =
      score_text(recipe.model, weights, corpus.tokenizer, corpus.validation, part, stride, engine);
  // Windows that follow documents are not full.
  const bool follow = recipe.model.documents && stride == 0;
  const auto all =
      follow ? static_cast<double>(measured.windows * targets) / static_cast<double>(part.tokens)
             : static_cast<double>(1 + std::max<std::int64_t>(targets - window + step - 1, 0) / step);
  return measured.seconds / static_cast<double>(std::max<std::int64_t>(measured.windows, 1)) * all;
}

/// Few windows first; more where those were too quick to judge by.
double forecast(const Recipe& recipe, graph::ParameterStore& weights, const Corpus& corpus, int stride,
                exec::Engine& engine) {
  constexpr int few = 32, many = 512;
  const double rough = forecast(recipe, weights, corpus, stride, few, engine);
  if (rough < 0.5 * recipe.budget.eval_seconds) return rough;
  return forecast(recipe, weights, corpus, stride, many, engine);
}

}  // namespace

ScorePlan shortened(const ScorePlan& asked, int window, double allowed,
                    const std::function<double(int stride)>& seconds) {
  ScorePlan plan = asked;
  double plain = plan.plain ? seconds(0) : 0;
  double sliding = plan.stride > 0 ? seconds(plan.stride) : 0;
  while (plan.stride > 0 && plain + sliding > allowed) {
    plan.stride = 2 * plan.stride < window ? 2 * plan.stride : 0;
    sliding = plan.stride > 0 ? seconds(plan.stride) : 0;
  }
  // Without sliding windows something must be scored.
  if (plan.stride == 0 && !plan.plain) {
    plan.plain = true;
    plain = seconds(0);
  }
  plan.forecast_seconds = plain + sliding;
  return plan;
}

ScorePlan plan_scores(const Recipe& recipe, graph::ParameterStore& weights, const Corpus& corpus,
                      exec::Engine& engine) {
  ScorePlan asked{recipe.score.plain, recipe.score.stride, {}};
  const double allowed = recipe.budget.eval_seconds;
  if (allowed <= 0) return asked;
  std::map<int, double> measured;
  const auto seconds = [&](int stride) {
    const auto known = measured.find(stride);
    if (known != measured.end()) return known->second;
    return measured[stride] = forecast(recipe, weights, corpus, stride, engine);
  };
  asked.forecast_seconds = (asked.plain ? seconds(0) : 0) + (asked.stride > 0 ? seconds(asked.stride) : 0);
  if (*asked.forecast_seconds <= allowed) return asked;
  const auto expected = fmt::format("scoring is expected to take {:.0f} s, budget.eval_seconds is {:.0f}",
                                    *asked.forecast_seconds, allowed);
  if (!recipe.budget.enforce) {
    engine.progress().warning(expected);
    return asked;
  }
  const auto plan = shortened(asked, evaluated(recipe).window, allowed, seconds);
  if (*plan.forecast_seconds > allowed)
    base::fail("{}, and plain windows alone take {:.0f} s; score less with score.tokens", expected,
               *plan.forecast_seconds);
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
