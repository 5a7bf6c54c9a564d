// Results that come one or more steps late change nothing: the same bytes, the same log, the same bad step.
#include "delayed_backend.h"
#include "fairway/artifact/checkpoint.h"
#include "stages.h"

#include <gmock/gmock.h>

#include <nlohmann/json.hpp>

namespace fairway::pipeline::testing {
namespace {

using ::testing::HasSubstr;

struct Logged {
  std::int64_t step;
  double loss, norm, lr_scale;
  std::optional<double> validation;
  bool operator==(const Logged&) const = default;
};

struct Result {
  std::vector<Logged> log;
  std::vector<std::byte> raw, exported;
  std::vector<std::vector<std::byte>> checkpoints;  ///< as they were when their step was logged
  std::string error;
  int deepest = 0;
};

class Depth : public ::testing::Test {
 protected:
  Result train(const Recipe& recipe, int depth) {
    Engine engine(with_threads(2));
    const auto corpus = prepare_corpus(recipe, engine);
    auto backend = std::make_unique<DelayedBackend>(make_train_backend(recipe, engine), depth);
    auto* delayed = backend.get();
    Trainer trainer(recipe, corpus, engine, std::move(backend));
    Folder folder;
    Result result;
    const MetricsSinks sinks = {[&](const StepMetrics& m) {
      result.log.push_back({m.step, m.loss, m.gradient_norm, m.lr_scale, m.validation_loss});
    }};
    result.error = error_of(base::ErrorKind::failure, [&] { trainer.run(sinks, folder / "c.fwck"); });
    result.deepest = delayed->deepest;
    result.raw = weights_of(trainer.weights());
    result.exported = weights_of(*trainer.exported_weights());
    const auto saved = artifact::Checkpoint::open(folder / "c.fwck");
    for (const auto& buffer : saved.buffers())
      if (buffer.name != "progress.elapsed_ms")
        result.checkpoints.emplace_back(buffer.bytes.begin(), buffer.bytes.end());
    auto meta = nlohmann::json::parse(saved.metadata());
    EXPECT_EQ(meta["step"], result.log.back().step);
    EXPECT_EQ(meta["loader"]["step"], result.log.back().step);
    return result;
  }
};

TEST_F(Depth, NeverMatters) {
  const auto recipe =
      small_recipe({"train.steps=9", "train.validate_every=4", "train.checkpoint_every=3", "average.kind=swa",
                    "average.swa_every=1", "average.swa_below=0.9", "score.tokens=500"});
  const auto expected = train(recipe, 0);
  EXPECT_EQ(expected.log.size(), 9u);
  EXPECT_TRUE(expected.log[3].validation.has_value());
  EXPECT_EQ(expected.deepest, 1);
  for (const int depth : {1, 3}) {
    const auto late = train(recipe, depth);
    EXPECT_EQ(late.deepest, depth == 1 ? 2 : 3) << "a pause after steps 3 and 4 lets at most 3 in flight";
    EXPECT_EQ(late.log, expected.log) << depth;
    EXPECT_EQ(late.raw, expected.raw) << depth;
    EXPECT_EQ(late.exported, expected.exported) << depth;
    EXPECT_EQ(late.checkpoints, expected.checkpoints) << depth;
  }
}

TEST_F(Depth, ABadStepIsNamedThoughLaterOnesWereOnTheirWay) {
  const auto recipe = small_recipe({"train.steps=60", "train.warmdown_steps=0", "optim.table_lr=10",
                                    "optim.adam_weight_decay=10", "optim.grad_clip=0"});
  const auto expected = train(recipe, 0);
  EXPECT_THAT(expected.error, HasSubstr("step " + std::to_string(expected.log.back().step + 1) + ":"));
  const auto late = train(recipe, 1);
  EXPECT_EQ(late.error, expected.error);
  EXPECT_EQ(late.log, expected.log);
  EXPECT_EQ(late.raw, expected.raw);
  EXPECT_EQ(late.checkpoints, expected.checkpoints);
}

TEST_F(Depth, TheRooflineIsLoggedWhereTheBackendKnowsIt) {
  const auto recipe = small_recipe();
  Engine engine(with_threads(2));
  const auto corpus = prepare_corpus(recipe, engine);
  for (const double least : {0.0, 0.001}) {
    auto backend = std::make_unique<DelayedBackend>(make_train_backend(recipe, engine), 1);
    backend->roofline = least;
    Trainer trainer(recipe, corpus, engine, std::move(backend));
    std::vector<StepMetrics> log;
    const auto outcome = trainer.run({[&](const StepMetrics& m) { log.push_back(m); }}, {});
    EXPECT_EQ(outcome.roofline.has_value(), least > 0);
    for (const auto& m : log) EXPECT_EQ(m.roofline.has_value(), least > 0);
    if (least == 0) continue;
    const auto tokens = static_cast<double>(recipe.train.batch_tokens);
    EXPECT_NEAR(*outcome.roofline, least * outcome.tokens_per_second / tokens, 1e-9);
    EXPECT_NEAR(*log[2].roofline, least * log[2].tokens_per_second / tokens, 1e-9);
  }
}

TEST_F(Depth, AStopFinishesTheStepsInFlightAndGoesOnToTheSameBytes) {
  const auto recipe = small_recipe({"train.steps=8"});
  const auto expected = train(recipe, 0);
  Engine engine(with_threads(2));
  const auto corpus = prepare_corpus(recipe, engine);
  Folder folder;
  const auto outcome = train_until(4, recipe, corpus, folder / "c.fwck", [&](Engine& stopped) {
    return std::make_unique<DelayedBackend>(make_train_backend(recipe, stopped), 1);
  });
  EXPECT_TRUE(outcome.interrupted);
  EXPECT_EQ(outcome.steps, 5);
  Trainer second(recipe, corpus, engine,
                 std::make_unique<DelayedBackend>(make_train_backend(recipe, engine), 1));
  second.restore(folder / "c.fwck");
  EXPECT_EQ(second.run({}, {}).steps, 8);
  EXPECT_EQ(weights_of(second.weights()), expected.raw);
  EXPECT_EQ(weights_of(*second.exported_weights()), expected.exported);
}

}  // namespace
}  // namespace fairway::pipeline::testing
