// Training of the CaseOps models: layers that begin to run again, packed rows, and what follows from both.
#include "delayed_backend.h"
#include "fairway/pipeline/stages/generate.h"
#include "stages.h"

#include <gmock/gmock.h>

namespace fairway::pipeline::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

Recipe caseops_recipe(std::vector<std::string> more = {}) {
  std::vector<std::string> set = {
      "model.layers=4",        "model.unet_skips=true",   "model.skip_gates=true",
      "model.smear=false",     "model.smear_channels=12", "model.attn_gate=sigmoid",
      "model.loop_layers=[1]", "model.loop_runs=3",       "model.parallel_layers=[2, 3]",
      "model.parallel=lanes",  "model.documents=true",    "model.bigram_rows=0",
      "model.ve_dim=0",        "model.ve_layers=[]",      "model.xsa_layers=[0, 1, 2, 3]",
      "train.packed=true",     "data.slices=2",           "train.loop_start=0.5",
      "train.steps=8",         "train.warmdown_steps=4"};
  set.insert(set.end(), more.begin(), more.end());
  return small_recipe(set);
}

struct Result {
  std::vector<double> losses, scales;
  std::vector<std::byte> weights;
  std::vector<double> elapsed_ms;
};

Result train(const Recipe& recipe, int threads = 2) {
  Engine engine(with_threads(threads));
  const auto corpus = prepare_corpus(recipe, engine);
  Trainer trainer(recipe, corpus, engine);
  Result result;
  trainer.run({[&](const StepMetrics& m) {
                result.losses.push_back(m.loss);
                result.scales.push_back(m.lr_scale);
              }},
              {});
  result.weights = weights_of(*trainer.exported_weights());
  result.elapsed_ms.assign(trainer.progress_log().begin(), trainer.progress_log().end());
  return result;
}

TEST(CaseOpsTraining, LayersRunOnceUntilTheirPartOfTheTraining) {
  const auto switched = train(caseops_recipe());
  const auto never = train(caseops_recipe({"train.loop_start=1"})),
             always = train(caseops_recipe({"train.loop_start=0"}));
  ASSERT_EQ(switched.losses.size(), 8u);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(switched.losses[i] == never.losses[i], i < 4) << i;
  EXPECT_NE(always.losses[1], never.losses[1]);
  EXPECT_LT(switched.losses.back(), switched.losses.front() - 0.2);
  EXPECT_EQ(train(caseops_recipe(), 3).weights, switched.weights) << "threads never matter";
}

/// Stopped after so many steps and resumed, a run ends with the bytes of one that was not.
void expect_same_when_resumed(const Recipe& recipe, const std::vector<std::byte>& expected,
                              std::initializer_list<int> stops) {
  for (const int until : stops) {
    Folder folder;
    const auto checkpoint = folder / "c.fwck";
    Engine engine(with_threads(2));
    const auto corpus = prepare_corpus(recipe, engine);
    train_until(until, recipe, corpus, checkpoint);
    Trainer second(recipe, corpus, engine);
    second.restore(checkpoint);
    EXPECT_EQ(second.steps_done(), until);
    second.run({}, {});
    EXPECT_EQ(weights_of(*second.exported_weights()), expected) << until;
  }
}

TEST(CaseOpsTraining, ResumedAcrossTheSwitchItIsTheSame) {
  const auto recipe = caseops_recipe();
  expect_same_when_resumed(recipe, train(recipe).weights, {2, 4, 6});
}

const std::vector<std::string> kCounted = {"train.schedule=wall_clock", "train.seconds=1.2",
                                           "train.reserve_seconds=0.2", "train.step_ms=[100, 200]",
                                           "train.steps=1000"};

TEST(CaseOpsTraining, AClockThatCountsStepsFollowsTheSecondFigureOnceLayersRunAgain) {
  const auto counted = train(caseops_recipe(kCounted));
  EXPECT_THAT(counted.elapsed_ms, ElementsAre(0, 100, 200, 300, 400, 500, 700, 900))
      << "the last ends at 1100";
  auto one = kCounted;
  one.push_back("train.step_ms=[250]");
  EXPECT_THAT(train(caseops_recipe(one)).elapsed_ms, ElementsAre(0, 250, 500, 750));
  one.push_back("train.steps=2");
  EXPECT_THAT(train(caseops_recipe(one)).elapsed_ms, ElementsAre(0, 250)) << "steps are a cap";
}

TEST(CaseOpsTraining, AClockThatCountsStepsGivesTheSameBytesEveryTime) {
  const auto recipe = caseops_recipe(kCounted);
  const auto expected = train(recipe);
  EXPECT_EQ(train(recipe, 1).weights, expected.weights);
  expect_same_when_resumed(recipe, expected.weights, {3, 6});
  Engine engine(with_threads(2));
  const auto corpus = prepare_corpus(recipe, engine);
  Trainer late(recipe, corpus, engine,
               std::make_unique<DelayedBackend>(make_train_backend(recipe, engine), 1));
  late.run({}, {});
  EXPECT_EQ(weights_of(*late.exported_weights()), expected.weights) << "whoever submits ahead";
}

const std::vector<std::string> kWindows = {"train.windows=[16, 64, 128]", "train.window_until=[0.25, 0.5]",
                                           "train.window_warmup_steps=2"};

TEST(CaseOpsTraining, PiecesOfRowsGrowByStages) {
  const auto grown = train(caseops_recipe(kWindows));
  const auto shortest = train(caseops_recipe({"train.windows=[16]"}));
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(grown.losses[i] == shortest.losses[i], i < 3) << i;
  EXPECT_THAT(grown.scales, ElementsAre(1, 1, 1, 0.5, 1, 0.375, 0.5, 0.25))
      << "after each change half of the schedule's rate, then the whole";
  auto at_once = kWindows;
  at_once.push_back("train.window_warmup_steps=0");
  const auto unwarmed = train(caseops_recipe(at_once));
  EXPECT_THAT(unwarmed.scales, ElementsAre(1, 1, 1, 1, 1, 0.75, 0.5, 0.25));
  for (std::size_t i = 0; i < 8; ++i)
    EXPECT_EQ(unwarmed.losses[i] == grown.losses[i], i < 4) << "the update after the change, " << i;
}

TEST(CaseOpsTraining, PiecesOfTheModelsWindowAreWhatRowsAreCutIntoAnyway) {
  const auto same = train(caseops_recipe({"train.windows=[128]"})), without = train(caseops_recipe());
  EXPECT_EQ(same.weights, without.weights);
  EXPECT_EQ(same.losses, without.losses);
}

TEST(CaseOpsTraining, ResumedWhilePiecesGrowItIsTheSame) {
  auto set = kCounted;
  set.insert(set.end(), kWindows.begin(), kWindows.end());
  const auto recipe = caseops_recipe(set);
  const auto expected = train(recipe);
  EXPECT_THAT(expected.scales, ::testing::Contains(::testing::Lt(1)));
  EXPECT_EQ(train(recipe, 1).weights, expected.weights);
  expect_same_when_resumed(recipe, expected.weights, {2, 3, 4, 5, 7});
}

TEST(CaseOpsTraining, ASmallerScaleKeepsThePartsOfTheWindow) {
  const auto loaded = parse_recipe(
      "model.window = 2048\nmodel.documents = true\ntrain.packed = true\n"
      "train.batch_tokens = 16384\ntrain.windows = [512, 1024, 2048]\ntrain.window_until = [0.1, 0.7]\n",
      "grows.toml", {}, {.scale = "tiny"});
  EXPECT_THAT(loaded.recipe.train.windows, ElementsAre(32, 64, 128));
}

TEST(CaseOpsTraining, APackedRowSeesItsDocumentsAcrossWindows) {
  // Windows begin inside documents; a packed row of the same tokens shows attention what stands before them.
  const auto packed = train(caseops_recipe()), rows = train(caseops_recipe({"train.packed=false"}));
  EXPECT_NE(packed.losses[3], rows.losses[3]);
  EXPECT_NE(train(caseops_recipe({"train.micro_batch=1"})).losses[3], packed.losses[3])
      << "a row is a micro-batch";
}

TEST(CaseOpsTraining, GeneratingBeginsAnewWithADocument) {
  const auto recipe = caseops_recipe({"model.bos_id=5"});
  Engine engine(with_threads(2));
  const auto corpus = prepare_corpus(recipe, engine);
  auto model = fresh_model(recipe, corpus.tokenizer, engine);
  auto values = model.weights->flat_values().span<float>();
  for (std::size_t i = 0; i < values.size(); ++i) values[i] += 0.05f * static_cast<float>(i % 7);
  exec::ModelRunner runner(recipe.model, *model.weights, engine);
  Decoder decoder(runner);
  const auto logits = [&](const std::vector<std::int32_t>& tokens) {
    decoder.reset();
    for (const auto token : tokens) decoder.feed(std::array{token});
    const auto one_by_one = decoder.feed(std::array{std::int32_t{9}});
    return std::vector<float>(one_by_one.begin(), one_by_one.end());
  };
  EXPECT_EQ(logits({40, 41, 5, 42}), logits({5, 42}));
  EXPECT_NE(logits({40, 41, 6, 42}), logits({6, 42}));
}

TEST(CaseOpsTraining, ADocumentsBeginningThatIsNotTheTokenizersIsSaid) {
  for (const bool other : {false, true}) {
    const auto recipe = caseops_recipe({other ? "model.bos_id=5" : "model.bos_id=1"});
    Said said;
    Engine engine(with_threads(2, &said));
    prepare_corpus(recipe, engine);
    EXPECT_EQ(said.warnings, other
                                 ? std::vector<std::string>{"model.bos_id = 5 is not the tokenizer's 1: the "
                                                            "model does not see where documents begin"}
                                 : std::vector<std::string>{});
  }
}

TEST(CaseOpsTraining, RanksOfAStepAreItsSlices) {
  const std::vector<std::string> by_rank = {"optim.clip=rank", "optim.grad_clip=0.05"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), by_rank.begin(), by_rank.end());
    return train(caseops_recipe(std::move(more)));
  };
  const auto ranks = with({}), global = train(caseops_recipe({"optim.grad_clip=0.05"}));
  EXPECT_EQ(ranks.losses[0], global.losses[0]);
  EXPECT_NE(ranks.weights, global.weights);
  // Not packed, a rank's micro-batches only change the order of sums.
  const auto whole = with({"train.packed=false"}),
             pieces = with({"train.packed=false", "train.micro_batch=1"});
  for (std::size_t i = 0; i < whole.losses.size(); ++i)
    EXPECT_NEAR(whole.losses[i], pieces.losses[i], 1e-3) << i;
  EXPECT_EQ(with({"data.slices=1"}).weights,
            train(caseops_recipe({"data.slices=1", "optim.grad_clip=0.05"})).weights)
      << "one rank is the whole step";
  EXPECT_THAT(input_error([] {
                caseops_recipe({"train.packed=false", "train.micro_batch=3", "optim.clip=rank"});
              }),
              HasSubstr("windows of a slice, which is a rank's with optim.clip"));
}

TEST(CaseOpsTraining, BadRecipesAreNamed) {
  const auto refused = [](std::vector<std::string> more) {
    return input_error([&] { caseops_recipe(std::move(more)); });
  };
  EXPECT_THAT(refused({"model.documents=false"}), HasSubstr("needs model.documents = true"));
  EXPECT_THAT(refused({"data.order=windows"}), HasSubstr("data.order"));
  EXPECT_THAT(refused({"train.micro_batch=3"}), HasSubstr("windows of a slice"));
  EXPECT_THAT(refused({"model.loop_layers=[]", "model.loop_runs=1"}), HasSubstr("train.loop_start = 0.5"));
  EXPECT_THAT(refused({"train.schedule=wall_clock", "train.step_ms=[1, 2, 3]"}),
              HasSubstr("train.step_ms: 3 numbers"));
  EXPECT_THAT(refused({"train.schedule=wall_clock", "train.step_ms=[1, 2]", "train.loop_start=0",
                       "model.loop_layers=[]", "model.loop_runs=1"}),
              HasSubstr("train.step_ms: 2 numbers"));
  EXPECT_THAT(refused({"train.step_ms=[0]"}), HasSubstr("train.step_ms"));
  EXPECT_THAT(refused({"train.windows=[16, 64]"}), HasSubstr("0 numbers for 2 of train.windows"));
  EXPECT_THAT(refused({"train.window_until=[0.5]"}), HasSubstr("1 numbers for 0 of train.windows"));
  EXPECT_THAT(refused({"train.windows=[16, 64, 128]", "train.window_until=[0.5, 0.5]"}),
              HasSubstr("train.window_until = [0.5, 0.5]: each number must be above"));
  EXPECT_THAT(refused({"train.windows=[16, 129]", "train.window_until=[0.5]"}),
              HasSubstr("129 is longer than model.window = 128"));
  EXPECT_THAT(refused({"train.windows=[16]", "train.packed=false"}), HasSubstr("set train.packed = true"));
  EXPECT_THAT(refused({"train.windows=[1]"}), HasSubstr("train.windows"));
}

}  // namespace
}  // namespace fairway::pipeline::testing
