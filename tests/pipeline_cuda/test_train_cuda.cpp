// Runs on a GPU: the same bytes each time and after a resume, the CPU's course in fp32, errors before the
// first step.
#include "fairway/artifact/checkpoint.h"
#include "fairway/pipeline/measure/explain.h"
#include "fairway/pipeline/train/train_backend.h"
#include "fairway/pipeline/train/train_setup.h"
#include "gpu.h"
#include "pipeline/stages.h"
#include "support/compare.h"

#include <gmock/gmock.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <numeric>

namespace fairway::pipeline::testing {
namespace {

using ::testing::HasSubstr;

/// Heads of 64: the bf16 path.
Recipe wide_recipe(std::vector<std::string> more = {}) {
  std::vector<std::string> keys = {"model.width=128", "model.heads=2",          "model.kv_heads=1",
                                   "train.steps=12",  "train.warmdown_steps=6", "train.batch_tokens=4096"};
  keys.insert(keys.end(), more.begin(), more.end());
  return small_recipe(keys);
}

class TrainOnGpu : public fairway::testing::OnGpu {
 protected:
  struct Run {
    std::vector<double> losses;
    std::vector<std::byte> exported;
    quant::Sensitivity sensitivity;
    std::string error;
    std::vector<double> step_seconds, step_roofline;
    double seconds = 0;
    std::optional<double> roofline;
  };
  Run train(const Recipe& recipe, tensor::Device device, const std::filesystem::path& checkpoint = {},
            const std::filesystem::path& from = {}) {
    Engine engine(on(device));
    const auto corpus = prepare_corpus(recipe, engine);
    Trainer trainer(recipe, corpus, engine);
    if (!from.empty()) trainer.restore(from);
    Run run;
    run.error = error_of(base::ErrorKind::failure, [&] {
      const auto outcome = trainer.run(
          {[&](const StepMetrics& m) {
            run.losses.push_back(m.loss);
            run.step_seconds.push_back(static_cast<double>(recipe.train.batch_tokens) / m.tokens_per_second);
            run.step_roofline.push_back(m.roofline.value_or(0));
          }},
          checkpoint);
      run.seconds = outcome.seconds;
      run.roofline = outcome.roofline;
    });
    run.exported = weights_of(*trainer.exported_weights());
    run.sensitivity = trainer.sensitivity();
    return run;
  }
  const tensor::Device gpu_ = fairway::testing::first_gpu;
};

TEST_F(TrainOnGpu, TwiceTheSameBytes) {
  for (const std::string kind : {"ema", "swa", "none"}) {
    const auto recipe = wide_recipe({"average.kind=" + kind, "average.swa_every=2", "average.swa_below=0.9",
                                     "optim.tables=bf16", "optim.ns_precision=bf16"});
    const auto first = train(recipe, gpu_), second = train(recipe, gpu_);
    ASSERT_EQ(first.losses.size(), 12u);
    EXPECT_EQ(first.losses, second.losses);
    EXPECT_EQ(first.exported, second.exported);
    EXPECT_LT(first.losses.back(), first.losses.front() - 0.8);
    ASSERT_TRUE(first.roofline);
    EXPECT_GT(*first.roofline, 0);
    EXPECT_LT(*first.roofline, 1.05) << "no step is faster than its work takes at best";
  }
}

/// The host queues a step ahead: by its clock the first step would seem quicker than its work can be, or the
/// last.
TEST_F(TrainOnGpu, StepsAreTimedByTheDevice) {
  const auto recipe = wide_recipe({"train.batch_tokens=32768"});
  const auto run = train(recipe, gpu_);
  const auto& took = run.step_seconds;
  ASSERT_EQ(took.size(), 12u);
  EXPECT_LE(std::accumulate(took.begin(), took.end(), 0.0), run.seconds);
  for (const double part : run.step_roofline) {
    EXPECT_GT(part, 0);
    EXPECT_LT(part, 1.05);
  }
}

TEST_F(TrainOnGpu, ResumedRunsEndAlike) {
  Folder folder;
  const auto recipe = wide_recipe({"average.kind=ema", "average.decay=0.9"});
  const auto whole = train(recipe, gpu_, folder / "whole.fwck");
  auto half = recipe;
  half.train.checkpoint_every = 5;
  Engine engine(on(gpu_));
  const auto corpus = prepare_corpus(recipe, engine);
  std::stop_source stop;
  auto options = on(gpu_);
  options.stop = stop.get_token();
  Engine stopping(options);
  {
    Trainer trainer(recipe, corpus, stopping);
    trainer.run({[&](const StepMetrics& m) {
                  if (m.step == 5) stop.request_stop();
                }},
                folder / "half.fwck");
    ASSERT_LT(trainer.steps_done(), 12);
  }
  const auto rest = train(recipe, gpu_, {}, folder / "half.fwck");
  EXPECT_EQ(rest.exported, whole.exported);
  EXPECT_EQ(rest.losses.back(), whole.losses.back());
  // And on the other device: another rounding, the same run.
  const auto moved = train(recipe, {}, {}, folder / "half.fwck");
  EXPECT_NEAR(moved.losses.back(), whole.losses.back(), 0.05);
}

TEST_F(TrainOnGpu, Fp32FollowsTheCpu) {
  // Heads of 32: the GPU computes in fp32.
  const auto recipe = small_recipe({"train.steps=10", "train.warmdown_steps=5"});
  const auto here = train(recipe, {}), there = train(recipe, gpu_);
  ASSERT_EQ(here.losses.size(), there.losses.size());
  for (std::size_t i = 0; i < here.losses.size(); ++i)
    EXPECT_NEAR(here.losses[i], there.losses[i], 2e-3) << i;
}

/// The last three steps, with learning-rate scales below a half.
const std::vector<std::string> kGuided = {"quant.guided_high=0.25", "quant.guided_low=0.25"};

double worst_apart(const quant::Sensitivity& a, const quant::Sensitivity& b) {
  fairway::testing::Largest worst;
  for (const auto& [name, value] : b) {
    EXPECT_GT(value, 0) << name;
    worst.see(std::abs(a.at(name) / value - 1));
  }
  return worst.value();
}

TEST_F(TrainOnGpu, CollectsTheCpusSensitivities) {
  // Heads of 32: fp32, so that only orders of sums differ, and what twelve steps make of that.
  auto keys = kGuided;
  keys.insert(keys.end(), {"train.steps=12", "train.warmdown_steps=6"});
  const auto recipe = small_recipe(keys);
  const auto here = train(recipe, {}), there = train(recipe, gpu_);
  ASSERT_EQ(here.sensitivity.size(), there.sensitivity.size());
  ASSERT_GE(here.sensitivity.size(), 12u);
  const double exact = worst_apart(there.sensitivity, here.sensitivity);
  EXPECT_LE(exact, 0.05);
  // Scales folded into matrices, bf16: gradients of the true parameters all the same.
  const auto narrow = wide_recipe(kGuided);
  const double rounded = worst_apart(train(narrow, gpu_).sensitivity, train(narrow, {}).sensitivity);
  EXPECT_LE(rounded, 0.2);
  std::cout << "[cuda] sensitivities against the CPU's: " << exact << " in fp32, " << rounded << " in bf16\n";
}

TEST_F(TrainOnGpu, SensitivitiesSurviveAResume) {
  Folder folder;
  const auto recipe = wide_recipe(kGuided);
  const auto whole = train(recipe, gpu_);
  std::stop_source stop;
  auto options = on(gpu_);
  options.stop = stop.get_token();
  Engine engine(options);
  const auto corpus = prepare_corpus(recipe, engine);
  {
    Trainer trainer(recipe, corpus, engine);
    trainer.run({[&](const StepMetrics& m) {
                  if (m.step == 10) stop.request_stop();
                }},
                folder / "half.fwck");
    ASSERT_LT(trainer.steps_done(), 12);
    ASSERT_FALSE(trainer.sensitivity().empty()) << "one of the steps that count is done";
  }
  EXPECT_EQ(train(recipe, gpu_, {}, folder / "half.fwck").sensitivity, whole.sensitivity);
  // And on the other device, under the same names.
  EXPECT_LE(worst_apart(train(recipe, {}, {}, folder / "half.fwck").sensitivity, whole.sensitivity), 0.2);
}

TEST_F(TrainOnGpu, LateQuantisationActs) {
  const auto plain = wide_recipe();
  auto late = wide_recipe({"qat.attention=4", "qat.mlp=4", "qat.last_fraction=0.5"});
  const auto without = train(plain, gpu_), with = train(late, gpu_);
  EXPECT_EQ(without.losses[5], with.losses[5]);
  EXPECT_NE(without.losses.back(), with.losses.back());
  late.qat.inert = true;
  EXPECT_EQ(train(late, gpu_).exported, without.exported);
}

TEST_F(TrainOnGpu, ScoresLikeTheCpu) {
  const auto recipe = wide_recipe();
  Engine cpu(on({})), gpu(on(gpu_));
  const auto corpus = prepare_corpus(recipe, cpu);
  auto model = fresh_model(recipe, corpus.tokenizer, cpu);
  for (const int stride : {0, 16}) {
    const auto a = score_text(recipe.model, *model.weights, corpus.tokenizer, corpus.validation, recipe.score,
                              stride, cpu);
    const auto b = score_text(recipe.model, *model.weights, corpus.tokenizer, corpus.validation, recipe.score,
                              stride, gpu);
    EXPECT_EQ(a.tokens, b.tokens);
    EXPECT_NEAR(a.loss, b.loss, 2e-3 * a.loss) << "stride " << stride;
  }
}

TEST_F(TrainOnGpu, ABatchThatDoesNotFitIsKnownBeforehand) {
  RecipeOptions options;
  options.set = {"train.batch_tokens=33554432", "train.micro_batch=16384"};  // hundreds of GB of activations
  auto recipe = load_recipe("cosine_ttt50", options).recipe;
  recipe.data = small_recipe().data;
  Engine engine(on(gpu_));
  const auto error = input_error([&] { make_train_backend(recipe, engine); });
  EXPECT_THAT(error,
              ::testing::AllOf(HasSubstr("train.micro_batch = 16384: needs"), HasSubstr("windows fit")));
  // The number it names is the largest: it fits, the next divisor of the step does not.
  const std::string before = "at most ";
  const auto at = error.find(before);
  ASSERT_NE(at, std::string::npos);
  recipe.train.micro_batch = std::stoi(error.substr(at + before.size()));
  EXPECT_EQ(explain(recipe, false, engine).micro_batch_rows, recipe.train.micro_batch);
  recipe.train.micro_batch *= 2;
  EXPECT_THAT(input_error([&] { explain(recipe, false, engine); }), HasSubstr("windows fit"));
}

TEST_F(TrainOnGpu, ProgramsThatDoNotFitAreRefusedBeforehand) {
  Engine engine(on(gpu_));
  auto config = wide_recipe().model;
  config.window = 2048;
  graph::ParameterStore store(model::make_layout(config), gpu_, true);
  graph::Plan plan(store, engine.runtime());
  model::BuildOptions build;
  build.rows = 1 << 15;  // nothing is taken before the sum is known
  plan.add(model::build(config, store.layout(), build));
  ASSERT_GT(plan.planned_bytes(), tensor::cuda_devices()[0].memory_bytes);
  EXPECT_THAT(
      error_of(base::ErrorKind::input, [&] { plan.allocate(); }),
      ::testing::MatchesRegex("cuda:0: .* needed, .* are free; make room there, or use --device cpu"));
}

TEST_F(TrainOnGpu, ABadStepChangesNothingNorDoesTheNext) {
  const auto recipe = wide_recipe(kGuided);
  Engine engine(on(gpu_));
  const auto corpus = prepare_corpus(recipe, engine);
  const auto backend = make_train_backend(recipe, engine);
  auto flat = read_weights(backend->weights());
  flat[0] = std::numeric_limits<float>::quiet_NaN();
  write_weights(backend->weights(), flat);
  data::BatchLoader loader(corpus.train, batch_shape(recipe));
  for (int step = 0; step < 2; ++step) {
    loader.next_step();
    backend->submit(loader, {.progress = {step, 0}, .average = AverageAction::add, .sensitivity = true});
  }
  for (int step = 0; step < 2; ++step) EXPECT_FALSE(backend->collect().finite());
  const auto after = read_weights(backend->weights());
  EXPECT_EQ(std::memcmp(after.data(), flat.data(), flat.size() * sizeof(float)), 0);
  EXPECT_EQ(average_count(recipe, backend->optimizer()), 0);
  EXPECT_TRUE(backend->optimizer().mean_squares().empty());
}

}  // namespace
}  // namespace fairway::pipeline::testing
