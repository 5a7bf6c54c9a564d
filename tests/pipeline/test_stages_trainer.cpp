// The training loop: what it learns, what it repeats to the bit, and how it stops.
#include "fairway/artifact/checkpoint.h"
#include "fairway/artifact/safetensors.h"
#include "stages.h"
#include "support/compare.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

#include <cmath>
#include <limits>

namespace fairway::pipeline::testing {
namespace {

using ::testing::HasSubstr;

struct TrainingSet {
  explicit TrainingSet(const Recipe& r, int threads = 2)
      : engine(with_threads(threads)), corpus(prepare_corpus(r, engine)) {}
  Engine engine;
  Corpus corpus;
};

/// Exported weights after training `recipe`.
std::vector<std::byte> trained(const Recipe& recipe, int threads = 2) {
  TrainingSet run(recipe, threads);
  Trainer trainer(recipe, run.corpus, run.engine);
  trainer.run({}, {});
  return weights_of(*trainer.exported_weights());
}

TEST(Trainer, StartsAtLogVAndLearns) {
  const auto recipe = small_recipe({"train.steps=25", "train.warmdown_steps=10"});
  TrainingSet run(recipe);
  Trainer trainer(recipe, run.corpus, run.engine);
  std::vector<StepMetrics> metrics;
  const auto outcome = trainer.run({[&](const StepMetrics& m) { metrics.push_back(m); }}, {});
  ASSERT_EQ(metrics.size(), 25u);
  EXPECT_EQ(outcome.steps, 25);
  EXPECT_FALSE(outcome.interrupted);
  EXPECT_NEAR(metrics.front().loss, std::log(320.0), 0.02);
  EXPECT_LT(metrics.back().loss, metrics.front().loss - 1.0);
  EXPECT_EQ(metrics.back().step, 25);
  EXPECT_EQ(metrics[0].lr_scale, 1.0);
  EXPECT_LT(metrics.back().lr_scale, 0.2);
  EXPECT_GT(metrics[3].gradient_norm, 0);
  EXPECT_GT(metrics[3].tokens_per_second, 0);
  EXPECT_EQ(outcome.last_loss, metrics.back().loss);
}

TEST(Trainer, ThreadsNeverMatterAndTheSeedDoes) {
  const auto recipe = small_recipe();
  const auto expected = trained(recipe, 1);
  EXPECT_EQ(trained(recipe, 2), expected);
  EXPECT_EQ(trained(recipe, 3), expected);
  auto other = recipe;
  other.seed = 7;
  EXPECT_NE(trained(other), expected);
}

/// That all threads take part in a run which has an index for each is the pool's to prove (tests/base).
TEST(Trainer, EveryStepHasWorkForAllThreads) {
  const auto recipe = small_recipe();
  for (const int threads : {2, 3}) {
    TrainingSet run(recipe, threads);
    ASSERT_EQ(run.engine.pool().threads(), threads);
    Trainer trainer(recipe, run.corpus, run.engine);
    auto before = run.engine.pool().shared_runs();
    trainer.run({[&](const StepMetrics& m) {
                  const auto now = run.engine.pool().shared_runs();
                  EXPECT_GT(now - before, 50)
                      << "kernels of step " << m.step << " on " << threads << " threads";
                  before = now;
                }},
                {});
  }
}

TEST(Trainer, MicroBatchesChangeRoundingOnly) {
  auto recipe = small_recipe({"train.micro_batch=8", "average.kind=none"});
  TrainingSet run(recipe);
  auto values = [&](int micro_batch) {
    auto r = recipe;
    r.train.micro_batch = micro_batch;
    r.train.steps = 2;
    Trainer trainer(r, run.corpus, run.engine);
    EXPECT_EQ(trainer.micro_batch_rows(), micro_batch);
    trainer.run({}, {});
    const auto flat = trainer.weights().flat_values().span<const float>();
    return std::vector<float>(flat.begin(), flat.end());
  };
  const auto whole = values(8), single = values(1);
  EXPECT_LT(fairway::testing::max_difference(whole, single), 2e-3) << "a step moves weights by 0.025";
  recipe.train.micro_batch = 3;
  EXPECT_THAT(input_error([&] { validate(recipe); }), HasSubstr("train.micro_batch = 3"));
}

class Resume : public ::testing::TestWithParam<const char*> {};

TEST_P(Resume, GivesTheBytesOfARunThatWasNeverStopped) {
  const auto recipe = small_recipe({"train.steps=8", "train.checkpoint_every=3", "optim.tables=bf16",
                                    std::string("average.kind=") + GetParam(), "average.swa_every=1",
                                    "average.swa_below=0.9"});
  Folder folder;
  TrainingSet run(recipe);
  Trainer whole(recipe, run.corpus, run.engine);
  whole.run({}, {});

  // Stopped from outside after step 4, as Ctrl-C does it.
  const auto checkpoint = folder / "c.fwck";
  const auto stopped = train_until(4, recipe, run.corpus, checkpoint);
  EXPECT_TRUE(stopped.interrupted);
  EXPECT_EQ(stopped.steps, 4) << "the step in progress is finished";
  Trainer second(recipe, run.corpus, run.engine);
  second.restore(checkpoint);
  EXPECT_EQ(second.steps_done(), 4);
  std::vector<std::int64_t> steps;
  const auto outcome = second.run({[&](const StepMetrics& m) { steps.push_back(m.step); }}, checkpoint);
  EXPECT_EQ(outcome.steps, 8);
  EXPECT_THAT(steps, ::testing::ElementsAre(5, 6, 7, 8));
  EXPECT_EQ(weights_of(second.weights()), weights_of(whole.weights()));
  EXPECT_EQ(weights_of(*second.exported_weights()), weights_of(*whole.exported_weights()));
  if (std::string(GetParam()) != "none") {
    EXPECT_NE(weights_of(*whole.exported_weights()), weights_of(whole.weights()));
  }
}
INSTANTIATE_TEST_SUITE_P(Averages, Resume, ::testing::Values("ema", "swa", "none"),
                         [](const auto& test) { return std::string(test.param); });

TEST(Trainer, ACheckpointOfAnotherTokenizerOrModelIsRefused) {
  const auto recipe = small_recipe({"train.steps=1"});
  Folder folder;
  TrainingSet run(recipe);
  Trainer trainer(recipe, run.corpus, run.engine);
  trainer.run({}, folder / "c.fwck");
  const auto wider = small_recipe({"train.steps=1", "model.width=96", "model.heads=3"});
  Trainer other(wider, run.corpus, run.engine);
  EXPECT_THAT(input_error([&] { other.restore(folder / "c.fwck"); }), HasSubstr("has another size"));
  const auto more = small_recipe({"train.steps=1", "data.train_bytes=60000"});
  TrainingSet less(more);
  Trainer third(more, less.corpus, less.engine);
  EXPECT_THAT(input_error([&] { third.restore(folder / "c.fwck"); }), HasSubstr("has other content"));
  EXPECT_THAT(input_error([&] { third.restore(folder / "none.fwck"); }), HasSubstr("none.fwck"));
}

bool all_finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float v) { return std::isfinite(v); });
}

TEST(Trainer, ANaNInTheInitialWeightsIsRefusedByName) {
  auto recipe = small_recipe();
  Folder folder;
  TrainingSet run(recipe);
  auto model = fresh_model(recipe, run.corpus.tokenizer, run.engine);
  model.weights->value("tok_emb.weight").span<float>()[77] = std::numeric_limits<float>::quiet_NaN();
  export_safetensors(model, folder / "nan.safetensors");
  recipe.train.init = folder("nan.safetensors");
  EXPECT_THAT(input_error([&] { Trainer(recipe, run.corpus, run.engine); }),
              HasSubstr("tensor 'tok_emb.weight' holds nan at element 77"));
}

TEST(Trainer, ARunThatExplodesKeepsItsLastGoodState) {
  // Weight decay past 1 turns into growth: tables become 99 times larger in each step.
  const auto recipe = small_recipe({"train.steps=60", "train.warmdown_steps=0", "optim.table_lr=10",
                                    "optim.adam_weight_decay=10", "optim.grad_clip=0"});
  Folder folder;
  TrainingSet run(recipe);
  Trainer trainer(recipe, run.corpus, run.engine);
  std::int64_t last = 0;
  const auto said = error_of(base::ErrorKind::failure, [&] {
    trainer.run({[&](const StepMetrics& m) { last = m.step; }}, folder / "c.fwck");
  });
  EXPECT_GT(last, 1);
  EXPECT_THAT(said, HasSubstr("step " + std::to_string(last + 1) + ":"));
  const auto saved = artifact::Checkpoint::open(folder / "c.fwck");
  EXPECT_EQ(nlohmann::json::parse(saved.metadata())["step"], last);
  for (const auto& t : saved.tensors()) EXPECT_TRUE(all_finite(t.values)) << t.name;
  Trainer again(recipe, run.corpus, run.engine);
  again.restore(folder / "c.fwck");
  EXPECT_EQ(again.steps_done(), last);
}

TEST(Trainer, AStopBeforeTheFirstStepSavesTheStart) {
  std::stop_source source;
  auto options = with_threads(1);
  options.stop = source.get_token();
  Engine engine(options);
  const auto recipe = small_recipe();
  const auto corpus = prepare_corpus(recipe, engine);
  Folder folder;
  source.request_stop();
  Trainer trainer(recipe, corpus, engine);
  const auto outcome = trainer.run({}, folder / "c.fwck");
  EXPECT_TRUE(outcome.interrupted);
  EXPECT_EQ(outcome.steps, 0);
  EXPECT_TRUE(std::filesystem::exists(folder / "c.fwck"));
}

TEST(Trainer, ValidatesAndStopsByTheClock) {
  auto recipe = small_recipe({"train.validate_every=2", "train.steps=5", "score.tokens=500"});
  TrainingSet run(recipe);
  Trainer trainer(recipe, run.corpus, run.engine);
  int validated = 0;
  trainer.run({[&](const StepMetrics& m) { validated += m.validation_loss.has_value(); }}, {});
  EXPECT_EQ(validated, 2) << "after steps 2 and 4";

  recipe = small_recipe({"train.schedule=wall_clock", "train.seconds=0.2", "train.steps=100000"});
  Said said;
  Engine watched(with_threads(2, &said));
  Trainer timed(recipe, run.corpus, watched);
  const auto outcome = timed.run({}, {});
  EXPECT_FALSE(outcome.interrupted);
  EXPECT_GE(outcome.seconds, 0.2);
  EXPECT_LT(outcome.steps, 100000);
  // What is shown is the run's length by the clock, not the cap on its steps.
  ASSERT_EQ(static_cast<std::int64_t>(said.updates.size()), outcome.steps);
  for (const auto& u : said.updates) {
    EXPECT_LE(u.done, u.total);
    EXPECT_LT(u.total, 100000);
  }
  EXPECT_EQ(said.updates.back().total, outcome.steps);
}

}  // namespace
}  // namespace fairway::pipeline::testing
