// The whole run, stage by stage, in one folder.

#include "fairway/pipeline/run/run.h"

#include "fairway/base/clock.h"
#include "fairway/base/file.h"
#include "fairway/base/folder_lock.h"
#include "fairway/base/path.h"
#include "fairway/base/text.h"
#include "fairway/pipeline/stages/adapt_stage.h"
#include "fairway/pipeline/stages/compressors.h"
#include "fairway/pipeline/stages/corpus.h"
#include "fairway/pipeline/stages/generate.h"
#include "fairway/pipeline/stages/model_file.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/pipeline/stages/scoring.h"
#include "fairway/pipeline/train/trainer.h"
#include "fairway/report/metrics.h"
#include "fairway/report/result.h"
#include "run/budget.h"
#include "run/metrics_sinks.h"
#include "run/run_folder.h"
#include "run/stage_times.h"
#include "train/train_checkpoint.h"

#include <nlohmann/json.hpp>

#include <array>
#include <cmath>
#include <future>
#include <optional>

namespace fairway::pipeline {

using base::fail_input;
using Json = nlohmann::ordered_json;
namespace fs = std::filesystem;

namespace {

Json outcome_json(const TrainOutcome& t) {
  Json json = {{"steps", t.steps},
               {"loss", t.last_loss},
               {"seconds", t.seconds},
               {"tokens_per_second", t.tokens_per_second},
               {"start_seconds", t.start_seconds},
               {"parameters", t.parameters},
               {"end", base::name_of(t.end)},
               {"qat_step", t.qat_step},
               {"averaged", t.average_count},
               {"changes", t.changes}};
  if (t.roofline) json["roofline"] = *t.roofline;
  return json;
}

/// Scores of one set of weights.
Json scores(const Recipe& recipe, graph::ParameterStore& weights, const Corpus& corpus,
            const std::string& label, const ScorePlan& plan, exec::Engine& engine) {
  Json result;
  auto add = [&](const char* kind, int stride) {
    engine.progress().note(fmt::format("scoring {} ({})", label, kind));
    result[kind] =
        score_text(recipe.model, weights, corpus.tokenizer, corpus.validation, recipe.score, stride, engine)
            .to_json();
  };
  if (plan.plain) add("plain", 0);
  if (plan.stride > 0) add("sliding", plan.stride);
  return result;
}

/// What a training holds, and where, before its first step.
std::string memory_plan(const std::vector<graph::MemoryLine>& table, const tensor::Device& device) {
  std::string parts;
  for (const auto& line : table)
    if (!line.shared)
      parts += fmt::format("{}{} {}", parts.empty() ? "" : ", ", line.what, base::human_bytes(line.bytes));
  return fmt::format("memory on {}: {} ({})", device.str(), base::human_bytes(graph::total_bytes(table)),
                     parts);
}

class RunStages {
 public:
  RunStages(const RunOptions& options, exec::Engine& engine)
      : o_(options),
        recipe_(options.recipe.recipe),
        engine_(engine),
        folder_{options.out},
        budget_(recipe_, engine) {}

  RunResult go() {
    const auto opened = open_run_folder(folder_, o_);
    const auto start = opened.start;
    if (start == Start::finished) return {base::read_text_file(folder_.result()), true};
    engine_.progress().note(fmt::format("{}: started {}", recipe_.name, base::utc_timestamp()));
    const base::Stopwatch reading;
    corpus_.emplace(prepare_corpus(recipe_, engine_));
    times_.add("reading and tokenising", reading.seconds() - corpus_->tokenizer_seconds);
    times_.add("tokenizer", corpus_->tokenizer_seconds);
    if (!o_.train_only && corpus_->validation.tokens.size() < 2)
      fail_input(
          "data.validation is not set: name the shards to score, or stop after training with `fairway "
          "train`");
    result_["name"] = recipe_.name;
    result_["build"] = build_version();
    result_["device"] = engine_.device().str();
    result_["isa"] = std::string(base::isa_name(engine_.isa()));
    result_["threads"] = engine_.pool().threads();
    result_["seed"] = recipe_.seed;
    result_["data"] = Json::parse(corpus_->manifest);
    train(start);
    if (!o_.train_only) {
      pack_and_score();
      adapt();
      compare();
      sample();
    }
    result_["peak_memory_bytes"] = base::peak_memory_bytes();
    result_["stages"] = times_.json();
    const bool drops = !o_.train_only && recipe_.train.keep_checkpoints == 0;
    result_["checkpoint"] = drops ? Json() : Json(folder_.checkpoint().string());
    if (!o_.train_only) report();
    const RunResult result{write_result(), false};
    if (drops) remove_checkpoints(folder_.checkpoint());
    return result;
  }

 private:
  std::string write_result() {
    result_["budget"] = budget_.json();
    result_["over_budget"] = budget_.over();
    const auto text = report::json_text(result_);
    base::write_file(folder_.result(), text);
    return text;
  }

  void train(Start start) {
    const bool resume = start == Start::resume;
    Trainer trainer(recipe_, *corpus_, engine_);
    // Only now: a run that stopped at bad input leaves its folder free.
    if (!holds_recipe(folder_.recipe(), recipe_)) base::write_file(folder_.recipe(), to_toml(o_.recipe));
    if (o_.replay) base::write_file(folder_.replay(), base::read_text_file(RunFolder{*o_.replay}.replay()));
    if (base::exists(folder_.replay())) trainer.replay(read_replay(folder_.replay()));
    if (resume) {
      trainer.restore(folder_.checkpoint());
      engine_.progress().note(fmt::format("continuing after step {}", trainer.steps_done()));
    }
    const auto& t = recipe_.train;
    const auto length = t.by_clock()
                            ? fmt::format("{} (at most {} steps)", base::human_seconds(t.seconds), t.steps)
                            : fmt::format("{} steps", t.steps);
    engine_.progress().note(
        fmt::format("training {} parameters: {}, {} tokens a step in micro-batches of {} windows",
                    trainer.weights().layout().count(), length, t.batch_tokens, trainer.micro_batch_rows()));
    engine_.progress().note(memory_plan(trainer.memory_table(), engine_.device()));
    const MetricsSinks sinks = {metrics_file(folder_.metrics(), trainer.steps_done()),
                                [&](const StepMetrics& m) { curves_.add(m); }};
    if (resume) curves_.read(folder_.metrics());
    const base::Stopwatch training;
    const auto outcome = trainer.run(sinks, folder_.checkpoint());
    times_.add("starting to train", outcome.start_seconds);
    times_.add("training", training.seconds() - outcome.pause_seconds);
    times_.add("validation and checkpoints in training", outcome.pause_seconds);
    if (outcome.interrupted)
      throw base::Error(base::ErrorKind::interrupted,
                        fmt::format("interrupted after step {}; saved in {}, continue with --resume",
                                    outcome.steps, folder_.root.string()));
    base::write_file(folder_.replay(), replay_json(trainer.progress_log()));
    result_["train"] = outcome_json(outcome);
    budget_.train_seconds(outcome.seconds);
    if (recipe_.average.kind == Average::swa && outcome.average_count == 0)
      engine_.progress().warning(
          fmt::format("fewer than average.swa_min = {} snapshots were taken: the last weights are exported",
                      recipe_.average.swa_min));
    Json memory;
    for (const auto& line : trainer.memory_table()) memory[line.what] = line.bytes;
    result_["memory"] = memory;
    if (o_.train_only) return;
    const auto exported = trainer.exported_weights();
    Measured measured{trainer.sensitivity()};
    if (needs_hessians(recipe_, exported->layout()))
      times_.time("calibrating", [&] {
        engine_.progress().note("calibrating the quantiser");
        measured.hessians = calibrate(recipe_, *exported, corpus_->train, engine_);
      });
    times_.time("quantising and packing", [&] {
      packing_ = start_packing(recipe_, *exported, corpus_->tokenizer, corpus_->manifest, folder_.artifact(),
                               engine_, measured);
    });
    const ScorePlan plain{recipe_.score.plain, 0, {}};
    times_.time("scoring the trained weights", [&] {
      result_["raw"] = scores(recipe_, *trainer.raw_weights(), *corpus_, "raw weights", plain, engine_);
      if (outcome.average_count > 0)
        result_["averaged"] = scores(recipe_, *exported, *corpus_, "averaged weights", plain, engine_);
    });
  }

  void pack_and_score() {
    const auto ledger = times_.time("quantising and packing", [&] { return packing_.get(); });
    result_["artifact"] = ledger.to_json();
    result_["artifact"]["path"] = folder_.artifact().string();
    try {
      budget_.artifact_bytes(result_["artifact"]["challenge_bytes"].get<std::int64_t>());
    } catch (const base::Error&) {
      write_result();
      throw;
    }
    // Scored from the file as a reader gets it.
    model_.emplace(open_model(folder_.artifact()));
    const auto plan = plan_scores(recipe_, *model_->weights, *corpus_, engine_);
    times_.time("scoring the artifact", [&] {
      result_["score"] = scores(recipe_, *model_->weights, *corpus_, "artifact", plan, engine_);
    });
    double seconds = 0;
    for (const auto& [kind, s] : result_["score"].items()) seconds += s["seconds"].get<double>();
    budget_.eval_seconds(seconds, plan);
    const auto& r = corpus_->validation.round_trip;
    if (r.changed_documents > 0)
      result_["normalisation"] = {{"changed_documents", r.changed_documents},
                                  {"documents", r.documents},
                                  {"changed_bytes", r.changed_bytes},
                                  {"bytes", r.bytes}};
  }

  /// Test-time training of the artifact on the validation text, with its own score and verdict.
  void adapt() {
    if (recipe_.adapt.when == adapt::When::never) return;
    engine_.progress().note("adapting the artifact to the validation text");
    const auto adapted = times_.time("adaptation", [&] {
      return adapt_and_score(recipe_, *model_->weights, corpus_->tokenizer, corpus_->validation, engine_);
    });
    result_["adapted"][adapted.kind] = adapted.to_json();
  }

  void compare() {
    // The part that was scored (score.tokens) is the first of the text.
    std::string_view text = corpus_->validation.text;
    for (const auto& [kind, s] : result_["score"].items())
      text = text.substr(0, s["text_bytes"].get<std::size_t>());
    if (text.empty()) return;
    engine_.progress().note("compressing the same text with xz and zstd");
    Json table = Json::array();
    const auto compressed = times_.time("compressing by other means", [&] {
      return compress_baselines(text, corpus_->train_text, engine_.pool());
    });
    for (const auto& c : compressed)
      table.push_back(
          {{"name", c.name}, {"bytes", c.bytes}, {"bits_per_byte", c.bits_per_byte}, {"note", c.note}});
    result_["compressors"] = table;
  }

  void sample() {
    if (recipe_.generate.tokens <= 0) return;
    const GenerateOptions g{recipe_.generate, static_cast<std::uint64_t>(recipe_.seed), {}};
    const auto generated = times_.time("sample", [&] { return generate(*model_, g, engine_); });
    base::write_file(folder_.sample(), g.prompt + generated.text + "\n");
    result_["sample"] = {{"prompt", g.prompt}, {"text", generated.text}};
  }

  void report() {
    result_["budget"] = budget_.json();
    report::write_html(folder_.report(), result_, curves_.training, curves_.validation, to_toml(o_.recipe));
  }

  const RunOptions& o_;
  const Recipe& recipe_;
  exec::Engine& engine_;
  RunFolder folder_;
  BudgetReport budget_;
  std::optional<Corpus> corpus_;
  std::future<artifact::SizeLedger> packing_;
  std::optional<OpenModel> model_;
  LossCurves curves_;
  StageTimes times_;
  Json result_;
};

}  // namespace

RunResult run(const RunOptions& options, exec::Engine& engine) { return RunStages(options, engine).go(); }

RunResult score_file(const ScoreRequest& request, exec::Engine& engine) {
  const auto model = open_model(request.model, request.raw ? Weights::raw : Weights::exported);
  auto recipe = model.recipe;
  if (request.tail) recipe.score.tail = *request.tail;
  if (request.rule) recipe.score.rule = *request.rule;
  if (request.split_on) recipe.data.reader.split_on = *request.split_on;
  if (!request.field.empty()) recipe.data.reader.field = request.field;
  recipe.data.reader.skip_bad_lines |= request.skip_bad_lines;
  recipe.score.tokens = request.tokens;  // a limit of the recipe was for its run
  const int stride = request.stride.value_or(recipe.score.stride);
  if (request.window > 0) recipe.score.window = request.window;
  const int window = evaluated(recipe).window;
  if (window < 2 || window <= recipe.model.memory_tokens)
    fail_input("--window {}: must be longer than the model's memory tokens, and at least 2", window);
  if (stride < 0 || stride > window)
    fail_input("--stride {}: must be 0 (plain) to {} (the window)", stride, window);
  const auto text =
      read_scored_text(request.patterns, recipe.data, model.tokenizer, recipe.model.vocab_size, engine);
  Json json = {
      {"model", model.source}, {"kind", model.kind}, {"isa", std::string(base::isa_name(engine.isa()))}};
  if (request.plain || stride == 0)
    json["plain"] =
        score_text(recipe.model, *model.weights, model.tokenizer, text, recipe.score, 0, engine).to_json();
  if (stride > 0)
    json["sliding"] =
        score_text(recipe.model, *model.weights, model.tokenizer, text, recipe.score, stride, engine)
            .to_json();
  const auto& r = text.round_trip;
  if (r.changed_documents > 0) {
    json["normalisation"] = {{"changed_documents", r.changed_documents},
                             {"documents", r.documents},
                             {"changed_bytes", r.changed_bytes},
                             {"bytes", r.bytes},
                             {"decoded_bytes", r.decoded_bytes}};
    engine.progress().warning(
        fmt::format("the tokenizer's normalisation changes {} of {} documents ({} of {} bytes); the score "
                    "counts the bytes after it",
                    r.changed_documents, r.documents, r.changed_bytes, r.bytes));
  }
  return {report::json_text(json), false};
}

}  // namespace fairway::pipeline
