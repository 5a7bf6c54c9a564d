#include "fairway/pipeline/stages/adapt_stage.h"

#include "fairway/base/path.h"
#include "fairway/pipeline/stages/model_file.h"
#include "fairway/pipeline/stages/scoring.h"
#include "fairway/report/metrics.h"

#include <nlohmann/json.hpp>

#include <algorithm>

namespace fairway::pipeline {

using base::fail_input;
using Json = nlohmann::ordered_json;

AdaptResult adapt_and_score(const Recipe& recipe, const graph::ParameterStore& weights,
                            const text::Tokenizer& tokenizer, const ScoredText& text, exec::Engine& engine,
                            const AdaptExtras& extras) {
  const auto tokens = scored_tokens(recipe.score, text);
  const auto bytes = token_bytes(recipe.score, tokenizer, recipe.model.vocab_size, text, tokens);
  adapt::EvaluateOptions options;
  options.count = bytes.counter();
  options.byte_rule = std::string(base::name_of(bytes.rule));
  options.text = [&](std::int64_t targets) { return text.reference(tokenizer, bytes.rule, targets); };
  options.stride = recipe.score.stride;
  options.ppm_weight = recipe.score.ppm_weight;  // a recipe has it with sliding scores only
  options.tail = recipe.score.tail;
  options.budget_seconds = recipe.budget.eval_seconds;
  options.budget =
      recipe.budget.enforce && extras.enforce_budget ? adapt::Budget::enforce : adapt::Budget::report;
  options.keep_scores = extras.keep_scores;
  options.until = extras.until;
  options.audit_windows = extras.audit_windows;
  AdaptResult result;
  result.kind = recipe.score.stride > 0 ? "sliding" : "plain";
  result.run = adapt::evaluate(protocol(recipe), evaluated(recipe), weights, engine, tokens, options);
  note_byte_rule(bytes.rule, tokenizer, result.run.score.verdict);
  return result;
}

Json AdaptResult::to_json() const {
  auto json = run.score.to_json();
  auto& list = json["training"] = Json::array();
  for (const auto& t : run.training)
    list.push_back({{"what", t.what},
                    {"parameters", t.parameters},
                    {"elements", t.elements},
                    {"steps", t.steps},
                    {"windows", t.windows},
                    {"loss", t.loss},
                    {"learning_rate", t.learning_rate},
                    {"seconds", t.seconds}});
  json["tokens_trained"] = run.tokens_trained;
  json["tokens_learnt_before_their_score"] = run.learnt_uncommitted;
  json["train_seconds"] = run.train_seconds;
  json["score_seconds"] = run.score_seconds;
  json["forecast_seconds"] = run.forecast_seconds;
  json["over_budget"] = run.over_budget;
  return json;
}

AdaptSubject open_subject(const AdaptRequest& request, exec::Engine& engine) {
  const bool is_run = base::is_folder(request.model);
  auto model = open_model(request.model);
  auto recipe = is_run ? load_recipe((request.model / "recipe.toml").string()).recipe : model.recipe;
  if (!is_run) recipe.score.tokens = 0;  // a limit of the recipe was for its run
  if (!request.recipe.empty()) {
    const auto other = load_recipe(request.recipe).recipe;
    recipe.adapt = other.adapt, recipe.score = other.score, recipe.budget = other.budget;
  }
  // Once more as a whole, with what the command line adds.
  recipe =
      parse_recipe(to_toml(recipe), request.model.string() + " (recipe)", {}, {.set = request.set}).recipe;
  recipe.model.older_shapes = model.recipe.model.older_shapes;  // no key: known by the file's tensors
  if (request.tokens > 0) recipe.score.tokens = request.tokens;
  AdaptSubject subject{recipe, model.tokenizer, std::move(model.weights), {}, model.source};
  if (!request.patterns.empty())
    subject.text =
        read_scored_text(request.patterns, recipe.data, subject.tokenizer, recipe.model.vocab_size, engine);
  else if (is_run)
    subject.text = std::move(prepare_corpus(recipe, engine).validation);
  else
    fail_input("{}: give the text, either --text FILE or --shards GLOB", request.model.string());
  return subject;
}

std::string adapt_file(const AdaptRequest& request, exec::Engine& engine) {
  const auto subject = open_subject(request, engine);
  const auto& recipe = subject.recipe;
  if (recipe.adapt.when == adapt::When::never)
    fail_input(
        "adapt.when = \"never\": name a recipe that adapts with --recipe, or set adapt.when with --set");
  Json json = {{"model", subject.source},
               {"name", recipe.name},
               {"build", build_version()},
               {"isa", std::string(base::isa_name(engine.isa()))}};
  const char* kind = recipe.score.stride > 0 ? "sliding" : "plain";
  engine.progress().note("scoring the model as it is");
  json["score"][kind] = score_text(recipe.model, *subject.weights, subject.tokenizer, subject.text,
                                   recipe.score, recipe.score.stride, engine)
                            .to_json();
  const auto adapted = adapt_and_score(recipe, *subject.weights, subject.tokenizer, subject.text, engine);
  json["adapted"][adapted.kind] = adapted.to_json();
  return report::json_text(json);
}

}  // namespace fairway::pipeline
