// What a whole run does with its options: replay, resume, limits of scores, budgets. Small models, no clock.
#include "fairway/artifact/checkpoint.h"
#include "fairway/pipeline/run/run.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/report/metrics.h"
#include "fairway/text/byte_table.h"
#include "stages.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>
#include <numeric>

namespace fairway::pipeline::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using Json = nlohmann::ordered_json;

/// A run of less than a second with `more` keys.
RunOptions run_of(const std::filesystem::path& out, std::vector<std::string> more = {}) {
  more.insert(more.begin(), {"data.train_bytes=60000", "train.steps=4", "score.tokens=600",
                             "generate.tokens=0", "score.stride=0", "adapt.when=never"});
  RunOptions options;
  options.recipe = {small_recipe(std::move(more)), "builtin:demo", {}, "tiny"};
  options.out = out;
  return options;
}

RunOptions training_of(const std::filesystem::path& out, std::vector<std::string> more = {}) {
  auto options = run_of(out, std::move(more));
  options.train_only = true;
  return options;
}

class RunStages : public ::testing::Test {
 protected:
  RunStages() : engine(with_threads(2, &said)) {}
  Json run_json(const RunOptions& options) { return Json::parse(run(options, engine).json); }
  std::vector<float> values_of(const std::filesystem::path& run_folder, Weights which = Weights::raw) {
    return read_weights(*open_model(run_folder / "checkpoint.fwck", which).weights);
  }
  /// A folder that looks like a finished run of `options`' recipe with this progress.
  void write_replayed(const std::filesystem::path& at, const RunOptions& options,
                      const std::vector<double>& elapsed_ms) {
    std::filesystem::create_directories(at);
    base::write_file(at / "recipe.toml", to_toml(options.recipe));
    base::write_file(at / "replay.json", Json{{"elapsed_ms", elapsed_ms}}.dump());
  }
  Folder folder;
  Said said;
  Engine engine;
};

// By these times, warm-down of 2 steps within 0.2 s: 1, 1, then (200 - 150) / (2 * 75), then the last.
const std::vector<std::string> kByTheClock = {"train.schedule=wall_clock", "train.seconds=0.2",
                                              "train.steps=1000", "train.warmdown_steps=2"};
const std::vector<double> kProgress = {0, 40, 150, 180, 196};

TEST_F(RunStages, AReplayRepeatsTheProgressOfTheRunItNames) {
  auto options = training_of(folder / "b", kByTheClock);
  write_replayed(folder / "a", options, kProgress);
  options.replay = folder / "a";
  const auto json = run_json(options);
  EXPECT_EQ(json["train"]["steps"], kProgress.size());
  EXPECT_EQ(json["train"]["end"], "replay");
  EXPECT_EQ(base::read_text_file(folder / "b/replay.json"), Json({{"elapsed_ms", kProgress}}).dump() + "\n")
      << "which can be replayed in turn";
  std::vector<double> scales;
  for (const auto& line : report::read_metrics(folder / "b/metrics.jsonl"))
    scales.push_back(line["lr_scale"]);
  ASSERT_EQ(scales.size(), kProgress.size());
  for (std::size_t i = 0; i < scales.size(); ++i) {
    const double decay = 2 * kProgress[i] / std::max<double>(1, static_cast<double>(i));
    const double left = 200 - kProgress[i];
    EXPECT_NEAR(scales[i], left <= decay ? left / decay : 1, 1e-12) << i;
  }
  auto again = training_of(folder / "c", kByTheClock);
  again.replay = folder / "b";
  run_json(again);
  EXPECT_EQ(values_of(folder / "c"), values_of(folder / "b"));
  EXPECT_EQ(values_of(folder / "c", Weights::exported), values_of(folder / "b", Weights::exported));
}

TEST_F(RunStages, AReplayOfAnotherRecipeOrOfNoRunIsRefused) {
  const auto original = training_of(folder / "x", kByTheClock);
  write_replayed(folder / "a", original, kProgress);
  auto set = kByTheClock;
  set.push_back("optim.beta1=0.8");
  auto other = training_of(folder / "b", set);
  other.replay = folder / "a";
  EXPECT_THAT(input_error([&] { run(other, engine); }), HasSubstr("differs in optim.beta1"));
  EXPECT_FALSE(std::filesystem::exists(folder / "b")) << "nothing was begun";
  other.replay = folder / "none";
  EXPECT_THAT(input_error([&] { run(other, engine); }), HasSubstr("no replay.json"));
  auto same = training_of(folder / "c", kByTheClock);
  same.replay = folder / "a";
  for (const char* damaged : {"", "{}", "[1]", R"({"elapsed_ms": 3})", R"({"elapsed_ms": [0, "1"]})",
                              R"({"elapsed_ms": [0, -1]})", R"({"elapsed_ms": [0, 1)"}) {
    base::write_file(folder / "a/replay.json", std::string_view(damaged));
    EXPECT_THAT(input_error([&] { run(same, engine); }), HasSubstr("replay.json: damaged")) << damaged;
  }
}

TEST_F(RunStages, KeysThatSayHowToWorkMayChangeOnAResumeAndNoOthers) {
  run(training_of(folder / "a"), engine);
  auto said_of = [&](const std::string& key) {
    auto options = training_of(folder / "a", {key});
    options.resume = true;
    return input_error([&] { run(options, engine); });
  };
  for (const auto* key :
       {"train.micro_batch=2", "train.log_every=3", "train.validate_every=2", "train.checkpoint_every=2",
        "train.checkpoint_seconds=5", "train.keep_checkpoints=2"})
    EXPECT_EQ(said_of(key), "") << key;
  // One of each kind of value that decides bits, the neighbours of the free ones among them.
  for (const auto* key :
       {"train.seconds=3", "train.steps=5", "train.schedule=wall_clock", "train.warmdown_steps=2",
        "train.products=bf16", "train.z_loss=0.001", "seed=5", "optim.beta1=0.5", "average.decay=0.5",
        "data.slices=4", "model.softcap=20", "quant.level=4", "score.tokens=700", "budget.enforce=true",
        "qat.inert=true", "adapt.lr=0.5", "generate.top_k=3", "name=\"other\""}) {
    const std::string name(key, std::string_view(key).find('='));
    EXPECT_THAT(said_of(key), HasSubstr("differs from the run in")) << key;
    EXPECT_THAT(said_of(key), HasSubstr(" in " + name + ";")) << key;
  }
}

TEST_F(RunStages, AResumedRunKeepsTheMetricsBeforeIt) {
  auto options =
      training_of(folder / "a", {"train.steps=4", "train.checkpoint_every=2", "train.keep_checkpoints=4"});
  run(options, engine);
  const auto whole = report::read_metrics(folder / "a/metrics.jsonl");
  ASSERT_EQ(whole.size(), 4u);
  // As a kill after step 2's checkpoint and step 3's line leaves it.
  std::filesystem::rename(folder / "a/checkpoint-00000002.fwck", folder / "a/checkpoint.fwck");
  std::filesystem::remove(folder / "a/checkpoint-00000004.fwck");
  std::filesystem::remove(folder / "a/result.json");
  options.resume = true;
  run(options, engine);
  const auto again = report::read_metrics(folder / "a/metrics.jsonl");
  ASSERT_EQ(again.size(), 4u);
  for (std::size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(again[i]["step"], i + 1);
    EXPECT_EQ(again[i]["loss"], whole[i]["loss"]) << i;
    if (i < 2) {
      EXPECT_EQ(again[i], whole[i]) << "lines before the resume stay as they were";
    }
  }
}

/// A checkpoint in the middle of a training, whose metadata can be changed.
class Restored : public RunStages {
 protected:
  void SetUp() override {
    recipe = small_recipe({"data.train_bytes=60000", "train.steps=3"});
    corpus.emplace(prepare_corpus(recipe, engine));
    Trainer trainer(recipe, *corpus, engine);
    trainer.run({}, folder / "c.fwck");
  }
  void edit(const std::function<void(Json&)>& change) {
    const auto old = artifact::Checkpoint::open(folder / "c.fwck");
    auto meta = Json::parse(old.metadata());
    change(meta);
    artifact::write_checkpoint(
        folder / "e.fwck", {old.tensors(), old.buffers(), meta.dump(), old.tokenizer(), old.recipe_text()});
  }
  TrainOutcome go_on(const Recipe& with) {
    Trainer trainer(with, *corpus, engine);
    trainer.restore(folder / "e.fwck");
    return trainer.run({[&](const StepMetrics& m) { seconds.push_back(m.seconds); }}, {});
  }
  Recipe recipe;
  std::optional<Corpus> corpus;
  std::vector<double> seconds;
};

TEST_F(Restored, TheClockGoesOnAtTheSavedSeconds) {
  edit([](Json& m) {
    m["seconds"] = 5000.0;
    m["end"] = "";
  });
  auto more = recipe;
  more.train.steps = 5;
  auto outcome = go_on(more);
  EXPECT_EQ(outcome.steps, 5);
  EXPECT_GE(outcome.seconds, 5000);
  ASSERT_EQ(seconds.size(), 2u);
  EXPECT_GE(seconds[0], 5000);

  auto by_clock = more;
  by_clock.train.schedule = optim::ScheduleKind::wall_clock;
  by_clock.train.seconds = 4000;
  outcome = go_on(by_clock);
  EXPECT_EQ(outcome.steps, 3) << "its time was over";
  EXPECT_EQ(outcome.end, TrainEnd::schedule);

  auto by_budget = more;
  by_budget.budget.train_seconds = 5001;
  by_budget.budget.enforce = true;
  outcome = go_on(by_budget);
  EXPECT_EQ(outcome.steps, 3) << "a step takes 1667 s by what the checkpoint says";
  EXPECT_EQ(outcome.end, TrainEnd::budget);
}

TEST_F(Restored, ATrainingThatHadEndedTrainsNoFurtherWhateverEndedIt) {
  auto more = recipe;
  more.train.steps = 6;
  for (const auto end : {TrainEnd::schedule, TrainEnd::budget, TrainEnd::replay}) {
    edit([&](Json& m) { m["end"] = base::name_of(end); });
    const auto outcome = go_on(more);
    EXPECT_EQ(outcome.steps, 3) << base::name_of(end);
    EXPECT_EQ(outcome.end, end) << base::name_of(end);
    EXPECT_FALSE(outcome.interrupted);
  }
  edit([](Json& m) { m["end"] = ""; });
  EXPECT_EQ(go_on(more).steps, 6);
}

// Scores of a file.

class ScoreFile : public RunStages {
 protected:
  void SetUp() override {
    recipe = small_recipe({"data.train_bytes=60000", "score.tokens=200", "score.stride=64"});
    corpus.emplace(prepare_corpus(recipe, engine));
    auto model = fresh_model(recipe, corpus->tokenizer, engine);
    pack(recipe, *model.weights, corpus->tokenizer, "{}", folder / "m.fairway", engine);
    // Runs of spaces and a character that falls to bytes: the two rules count them differently.
    text = "  Two  spaces,   three    four \xE2\x96\x81 and more of it. ";
    for (int i = 0; i < 4; ++i) text += text;
    base::write_file(folder / "t.txt", std::string_view(text));
  }
  Json scored(const std::function<void(ScoreRequest&)>& change) {
    ScoreRequest request;
    request.model = folder / "m.fairway";
    request.patterns = {folder("t.txt")};
    change(request);
    return Json::parse(score_file(request, engine).json);
  }
  std::vector<std::uint16_t> tokens() const {
    std::vector<std::uint16_t> ids = {static_cast<std::uint16_t>(corpus->tokenizer.bos_id())};
    corpus->tokenizer.encode(text, ids);
    return ids;
  }
  Recipe recipe;
  std::optional<Corpus> corpus;
  std::string text;
};

TEST_F(ScoreFile, TheRecipesLimitWasForItsRun) {
  const auto targets = static_cast<std::int64_t>(tokens().size()) - 1;
  ASSERT_GT(targets, 200);
  EXPECT_EQ(scored([](auto&) {})["sliding"]["tokens"], targets);
  EXPECT_EQ(scored([](auto& r) { r.stride = 0; })["plain"]["tokens"], targets);
  EXPECT_EQ(scored([](auto& r) { r.tokens = 150; })["sliding"]["tokens"], 150);
}

TEST_F(ScoreFile, TheRuleCountsItsBytesAndIsNamed) {
  std::map<std::string, std::int64_t> bytes;
  for (const auto rule : {text::ByteRule::challenge, text::ByteRule::exact}) {
    const std::string name(base::name_of(rule));
    const auto score = scored([&](auto& r) { r.rule = rule; })["sliding"];
    EXPECT_EQ(score["rule"], name);
    const auto table = text::make_byte_table(corpus->tokenizer, rule, recipe.model.vocab_size);
    const auto counts = table.counts(tokens());
    const auto expected = std::accumulate(counts.begin(), counts.end(), std::int64_t{0});
    EXPECT_EQ(score["bytes"], expected) << name;
    EXPECT_NEAR(score["bits_per_byte"].get<double>(),
                score["nll"].get<double>() / std::log(2.0) / static_cast<double>(expected), 1e-12);
    bytes[name] = expected;
  }
  EXPECT_EQ(bytes["exact"], static_cast<std::int64_t>(text.size()));
  EXPECT_NE(bytes["exact"], bytes["challenge"]) << "else this test cannot tell";
  EXPECT_EQ(scored([](auto&) {})["sliding"]["rule"], "exact") << "the recipe's: auto";
}

TEST_F(ScoreFile, StridePlainAndTailDoWhatTheySay) {
  EXPECT_EQ(scored([](auto& r) { r.stride = 32; })["sliding"]["stride"], 32);
  EXPECT_FALSE(scored([](auto&) {}).contains("plain"));
  const auto both = scored([](auto& r) { r.plain = true; });
  EXPECT_TRUE(both.contains("plain") && both.contains("sliding"));
  EXPECT_FALSE(scored([](auto& r) { r.stride = 0; }).contains("sliding"));
  EXPECT_EQ(scored([](auto& r) { r.tail = score::Tail::published; })["sliding"]["tail"], "published");
  EXPECT_EQ(scored([](auto&) {})["sliding"]["tail"], "clean");
  for (int stride : {-1, recipe.model.window + 1})
    EXPECT_THAT(input_error([&] { scored([&](auto& r) { r.stride = stride; }); }),
                HasSubstr(fmt::format("--stride {}", stride)));
}

TEST_F(ScoreFile, DocumentsAreSplitAsAsked) {
  base::write_file(folder / "l.txt", std::string_view("one\ntwo\nthree\n"));
  base::write_file(folder / "j.jsonl", std::string_view("{\"text\":\"aaaa\",\"other\":\"bbbbbbbbb\"}\n"));
  auto bytes = [&](const char* file, std::optional<data::SplitOn> split, const char* field) {
    return scored([&](auto& r) {
      r.patterns = {folder(file)};
      r.split_on = split;
      r.field = field;
    })["sliding"];
  };
  EXPECT_EQ(bytes("l.txt", data::SplitOn::line, "")["documents"].size(), 3u);
  EXPECT_EQ(bytes("l.txt", {}, "")["documents"].size(), 1u);
  EXPECT_EQ(bytes("j.jsonl", {}, "")["bytes"], 4);
  EXPECT_EQ(bytes("j.jsonl", {}, "other")["bytes"], 9);
}

TEST_F(RunStages, RawMeansTheLastStepsWeights) {
  run(training_of(folder / "a", {"average.kind=ema", "average.decay=0.9"}), engine);
  ASSERT_NE(values_of(folder / "a"), values_of(folder / "a", Weights::exported));
  base::write_file(folder / "t.txt",
                   std::string_view("The Mole had been working very hard all the morning."));
  ScoreRequest request;
  request.model = folder / "a/checkpoint.fwck";
  request.patterns = {folder("t.txt")};
  request.stride = 0;
  const auto exported = Json::parse(score_file(request, engine).json)["plain"]["nll"];
  request.raw = true;
  EXPECT_NE(Json::parse(score_file(request, engine).json)["plain"]["nll"], exported);
}

}  // namespace
}  // namespace fairway::pipeline::testing
