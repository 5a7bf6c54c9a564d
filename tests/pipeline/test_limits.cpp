// Where a limit lies, to the token, the row and the moment: how much is scored, what is still refused, what
// the clock counts.
#include "fairway/artifact/checkpoint.h"
#include "fairway/base/clock.h"
#include "fairway/pipeline/stages/adapt_stage.h"
#include "fairway/pipeline/stages/generate.h"
#include "fairway/pipeline/stages/packing.h"
#include "stages.h"

#include <gmock/gmock.h>

#include <cmath>
#include <functional>
#include <limits>

namespace fairway::pipeline::testing {
namespace {

using ::testing::AllOf;
using ::testing::HasSubstr;

/// A few lines of text with a published tokenizer, so that nothing is trained that no test looks at.
class Limits : public ::testing::Test {
 protected:
  Limits() : engine(with_threads(1)) {
    std::string lines;
    for (int i = 0; i < 60; ++i)
      lines += fmt::format("Line {} of {} moles and {} rats.\n", i, i * 37 % 11, i);
    base::write_file(folder / "a.txt", std::string_view(lines));
  }
  Recipe recipe_of(std::vector<std::string> more = {}) const {
    more.insert(more.begin(), {"model.vocab_size=1024", "data.train=[\"" + folder("a.txt") + "\"]",
                               "data.split_on=line", "data.min_document_bytes=0", "data.holdout_every=5",
                               "model.window=8", "train.batch_tokens=64", "train.steps=3",
                               "train.log_every=1", "score.stride=0", "adapt.when=never", "generate.tokens=0",
                               "data.tokenizer=" FAIRWAY_DATA_DIR "/tokenizers/fineweb_1024_bpe.model"});
    return small_recipe(std::move(more));
  }
  std::vector<StepMetrics> train(const Recipe& recipe) {
    const auto corpus = prepare_corpus(recipe, engine);
    std::vector<StepMetrics> steps;
    Trainer(recipe, corpus, engine).run({[&](const StepMetrics& m) { steps.push_back(m); }}, {});
    return steps;
  }
  /// What restoring says after the checkpoint's contents were changed.
  std::string after(const Recipe& recipe, const std::function<void(artifact::CheckpointContents&)>& change) {
    const auto corpus = prepare_corpus(recipe, engine);
    Trainer(recipe, corpus, engine).save(folder / "c.fwck");
    const auto saved = artifact::Checkpoint::open(folder / "c.fwck");
    artifact::CheckpointContents contents{saved.tensors(), saved.buffers(), saved.metadata(),
                                          saved.tokenizer(), saved.recipe_text()};
    change(contents);
    artifact::write_checkpoint(folder / "e.fwck", contents);
    Trainer trainer(recipe, corpus, engine);
    return input_error([&] { trainer.restore(folder / "e.fwck"); });
  }
  Folder folder;
  Engine engine;
};

TEST_F(Limits, SoManyTargetsNeedATokenMore) {
  ScoredText text;
  text.tokens.resize(50);
  auto recipe = recipe_of();
  const std::vector<std::pair<std::int64_t, std::size_t>> cases = {{0, 50},  {1, 2},   {10, 11},  {48, 49},
                                                                   {49, 50}, {50, 50}, {1000, 50}};
  for (const auto& [limit, tokens] : cases) {
    recipe.score.tokens = limit;
    EXPECT_EQ(scored_tokens(recipe.score, text).size(), tokens) << limit;
  }
}

TEST_F(Limits, AModelHasARowForEachPiece) {
  auto recipe = recipe_of();
  const auto said = [&](int rows) {
    recipe.model.vocab_size = rows;
    return input_error([&] { prepare_corpus(recipe, engine); });
  };
  EXPECT_THAT(said(1023), AllOf(HasSubstr("1024 pieces"), HasSubstr("model.vocab_size = 1023")));
  EXPECT_EQ(said(1024), "");
  EXPECT_EQ(said(1025), "");
}

TEST_F(Limits, ARunsLimitIsNoneOfItsModelFile) {
  const auto recipe = recipe_of({"score.tokens=100"});
  const auto run = folder / "run";
  std::filesystem::create_directory(run);
  const auto corpus = prepare_corpus(recipe, engine);
  Trainer(recipe, corpus, engine).save(run / "checkpoint.fwck");
  base::write_file(run / "recipe.toml", to_toml(recipe));
  base::write_file(folder / "other.toml", to_toml(recipe_of({"score.tokens=30"})));
  const auto limit = [&](const std::filesystem::path& model, const std::function<void(AdaptRequest&)>& more) {
    AdaptRequest request;
    request.model = model;
    request.patterns = {folder("a.txt")};
    more(request);
    return open_subject(request, engine).recipe.score.tokens;
  };
  const auto file = run / "checkpoint.fwck";
  EXPECT_EQ(limit(file, [](auto&) {}), 0) << "it was for its run";
  EXPECT_EQ(limit(run, [](auto&) {}), 100);
  for (const auto& model : {file, run}) {
    EXPECT_EQ(limit(model, [&](auto& r) { r.recipe = folder("other.toml"); }), 30);
    EXPECT_EQ(limit(model, [](auto& r) { r.set = {"score.tokens=9"}; }), 9);
    EXPECT_EQ(limit(model, [](auto& r) { r.tokens = 7; }), 7);
  }
}

TEST_F(Limits, ASampleEndsWithItsDocument) {
  const auto recipe = recipe_of();
  const auto corpus = prepare_corpus(recipe, engine);
  const auto model = fresh_model(recipe, corpus.tokenizer, engine, true);  // all tokens alike
  const auto bos = corpus.tokenizer.bos_id();
  ASSERT_THAT(bos, ::testing::AllOf(::testing::Ge(0), ::testing::Lt(3)));
  GenerateOptions o;
  o.temperature = 1;
  o.top_k = 3;  // of equals those with the lowest numbers
  for (std::uint64_t seed = 1; seed <= 3; ++seed) {
    o.seed = seed;
    o.tokens = 60;
    const auto made = generate(model, o, engine).tokens;
    EXPECT_LT(made.size(), 60u) << "a third of what is drawn begins a document";
    EXPECT_THAT(made, ::testing::Not(::testing::Contains(bos)));
  }
}

TEST_F(Limits, TheClockCountsStepsAndNoPauses) {
  const auto recipe = recipe_of({"train.validate_every=2"});
  const auto corpus = prepare_corpus(recipe, engine);
  Trainer trainer(recipe, corpus, engine);
  std::vector<double> held, seconds;  // how long the hook took, what the clock said before it
  const base::Stopwatch whole;
  const auto outcome = trainer.run({[&](const StepMetrics& m) {
                                     const base::Stopwatch here;
                                     while (here.seconds() < 0.03) continue;
                                     seconds.push_back(m.seconds);
                                     held.push_back(here.seconds());
                                   }},
                                   {});
  const double all = whole.seconds();
  ASSERT_EQ(held.size(), 3u);
  EXPECT_GE(seconds[1], seconds[0] + held[0] - 1e-6) << "no pause after step 1";
  EXPECT_GE(seconds[2], seconds[1]) << "the pause after step 2 takes nothing back";
  EXPECT_LE(outcome.seconds + held[1], all + 1e-6) << "nor does it count";
  EXPECT_GE(outcome.seconds, seconds[2] + held[2] - 1e-6) << "the last step makes no pause";
}

/// The loss of a step is that of its rows, however they are cut.
TEST_F(Limits, MicroBatchesAddUpToTheLossOfTheStep) {
  const auto whole = train(recipe_of({"train.micro_batch=8"}));
  ASSERT_EQ(whole.size(), 3u);
  EXPECT_NEAR(whole[0].loss, std::log(1024.0), 0.1);
  for (const char* rows : {"1", "2", "4"}) {
    const auto cut = train(recipe_of({std::string("train.micro_batch=") + rows}));
    ASSERT_EQ(cut.size(), 3u);
    EXPECT_NEAR(cut[0].loss, whole[0].loss, 1e-4) << rows;
    EXPECT_NEAR(cut[0].gradient_norm, whole[0].gradient_norm, 1e-3 * whole[0].gradient_norm) << rows;
  }
}

/// With learning rates of nothing a step's gradient is its own batch's, wherever the run began.
TEST_F(Limits, AStepKeepsNoGradientOfTheStepsBefore) {
  const std::vector<std::string> still = {"optim.matrix_lr=0", "optim.table_lr=0", "optim.scalar_lr=0",
                                          "train.steps=6"};
  const auto recipe = recipe_of(still);
  const auto corpus = prepare_corpus(recipe, engine);
  std::vector<double> whole, parts;
  Trainer(recipe, corpus, engine).run({[&](const StepMetrics& m) { whole.push_back(m.gradient_norm); }}, {});
  for (int step = 1; step <= 6; ++step) {  // each step in a trainer of its own
    std::stop_source stop;
    auto options = with_threads(1);
    options.stop = stop.get_token();
    Engine stopped(options);
    Trainer trainer(recipe, corpus, stopped);
    if (step > 1) trainer.restore(folder / "c.fwck");
    trainer.run({[&](const StepMetrics& m) {
                  parts.push_back(m.gradient_norm);
                  stop.request_stop();
                }},
                folder / "c.fwck");
  }
  EXPECT_EQ(parts, whole);
}

TEST_F(Limits, WhatIsNotFiniteIsNotSavedWithOrWithoutAnAverage) {
  for (const char* kind : {"none", "ema", "swa"}) {
    const auto recipe = recipe_of({std::string("average.kind=") + kind, "average.swa_every=1",
                                   "average.swa_below=1", "average.swa_min=1"});
    const auto corpus = prepare_corpus(recipe, engine);
    Trainer trainer(recipe, corpus, engine);
    trainer.run({}, {});
    auto& value = trainer.weights().value("tok_emb.weight").span<float>()[5];
    value = std::numeric_limits<float>::infinity();
    EXPECT_THAT(error_of(base::ErrorKind::failure, [&] { trainer.save(folder / "n.fwck"); }),
                HasSubstr("step 3: weights are not finite and not saved"))
        << kind;
    EXPECT_FALSE(std::filesystem::exists(folder / "n.fwck")) << kind;
    value = 0;
    trainer.save(folder / "n.fwck");
    std::filesystem::remove(folder / "n.fwck");
  }
}

TEST_F(Limits, ACheckpointGoesOnWithItsOwnTokenizerOnly) {
  const auto recipe = recipe_of();
  EXPECT_EQ(after(recipe, [](auto&) {}), "");
  // The data's description is the same: only the pieces in the file tell.
  EXPECT_THAT(after(recipe, [](auto& c) { c.tokenizer->model.back() ^= 1; }),
              AllOf(HasSubstr("e.fwck"), HasSubstr("made with another tokenizer")));
  EXPECT_THAT(after(recipe, [](auto& c) { c.tokenizer.reset(); }), HasSubstr("made with another tokenizer"));
}

TEST_F(Limits, TablesComeBackAsTheyWereTrained) {
  for (const bool rounded : {false, true}) {
    const auto recipe = recipe_of({rounded ? "optim.tables=bf16" : "optim.tables=f32"});
    const auto corpus = prepare_corpus(recipe, engine);
    const auto model = fresh_model(recipe, corpus.tokenizer, engine);
    const auto back =
        from_artifact(make_artifact(recipe, *model.weights, corpus.tokenizer, corpus.manifest, engine), "m");
    std::size_t tables = 0, others = 0;  // values that are none of bf16
    for (const auto& p : back.weights->layout().parameters())
      for (const float v : back.weights->value(p.name).span<const float>())
        (p.group == graph::Group::embedding ? tables : others) += v != tensor::round_to_bf16(v);
    EXPECT_EQ(tables == 0, rounded);
    EXPECT_GT(others, 0u) << "all else is as it was packed";
  }
}

}  // namespace
}  // namespace fairway::pipeline::testing
