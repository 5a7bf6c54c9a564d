// Gradient-guided bits, from the gradients of training to the artifact.
#include "fairway/artifact/checkpoint.h"
#include "fairway/pipeline/run/run.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/pipeline/train/train_backend.h"
#include "fairway/pipeline/train/train_setup.h"
#include "stages.h"

#include <gmock/gmock.h>

#include <algorithm>

namespace fairway::pipeline::testing {
namespace {

using ::testing::HasSubstr;

/// Steps 5 and 6 have learning-rate scales of 0.4 and 0.2, the one before 0.6.
const std::vector<std::string> kGuided = {
    "train.steps=6",    "train.warmdown_steps=5", "quant.guided_high=0.25", "quant.guided_low=0.25",
    "score.tokens=500", "score.stride=0",         "generate.tokens=0"};

quant::Sensitivity trained_sensitivity(const Recipe& recipe, int threads) {
  Engine engine(with_threads(threads));
  const auto corpus = prepare_corpus(recipe, engine);
  Trainer trainer(recipe, corpus, engine);
  trainer.run({}, {});
  return trainer.sensitivity();
}

TEST(Guided, TheMeanSquaresAreThoseOfTheLastSteps) {
  const auto recipe = small_recipe(kGuided);
  Engine engine(with_threads(2));
  const auto corpus = prepare_corpus(recipe, engine);
  const auto backend = make_train_backend(recipe, engine);
  auto& store = backend->weights();
  data::BatchLoader loader(corpus.train, batch_shape(recipe));
  quant::Sensitivity by_hand;
  for (int step = 0; step < 6; ++step) {
    StepPlan plan;
    plan.progress = {step, 0};
    plan.average = step == 0 ? AverageAction::none : AverageAction::add;
    plan.sensitivity = step >= 4;
    loader.next_step();
    backend->submit(loader, plan);
    ASSERT_TRUE(backend->collect().finite());
    EXPECT_EQ(backend->optimizer().mean_squares().empty(), step < 4);
    if (step < 4) continue;
    for (const auto& p : store.layout().parameters()) {
      if (p.group != graph::Group::matrix) continue;
      double sum = 0;
      const auto all = store.flat_gradients().span<float>();
      for (std::int64_t i = 0; i < p.elements(); ++i) {
        const double g = static_cast<double>(all[static_cast<std::size_t>(p.offset + i)]);
        sum += g * g;
      }
      by_hand[p.name] += sum / static_cast<double>(p.elements()) / 2;
    }
  }
  const auto collected = backend->optimizer().mean_squares();
  ASSERT_EQ(collected.size(), by_hand.size());
  for (const auto& [name, value] : by_hand) {
    EXPECT_GT(value, 0) << name;
    EXPECT_NEAR(collected.at(name), value, 1e-9 * value) << name;
  }
  EXPECT_EQ(trained_sensitivity(recipe, 1), collected) << "the schedule chooses the same steps";
  EXPECT_EQ(trained_sensitivity(recipe, 3), collected) << "threads change nothing";
}

std::vector<std::byte> buffer_of(const std::filesystem::path& checkpoint, std::string_view name) {
  const auto file = artifact::Checkpoint::open(checkpoint);
  const auto* found = file.buffer(name);
  if (!found) return {};
  return {found->bytes.begin(), found->bytes.end()};
}

TEST(Guided, AResumeBetweenTheStepsKeepsEveryByte) {
  const auto recipe = small_recipe(kGuided);
  Folder folder;
  Engine engine(with_threads(2));
  const auto corpus = prepare_corpus(recipe, engine);
  Trainer(recipe, corpus, engine).run({}, folder / "whole.fwck");

  train_until(5, recipe, corpus, folder / "c.fwck");
  const auto first = buffer_of(folder / "c.fwck", kSensitivityBuffer);
  ASSERT_FALSE(first.empty()) << "one of the two steps is done";
  Trainer second(recipe, corpus, engine);
  second.restore(folder / "c.fwck");
  second.run({}, folder / "c.fwck");
  for (const auto* name : {kSensitivityBuffer, "sensitivity.sums", "exported"}) {
    EXPECT_EQ(buffer_of(folder / "c.fwck", name), buffer_of(folder / "whole.fwck", name)) << name;
    EXPECT_FALSE(buffer_of(folder / "c.fwck", name).empty()) << name;
  }
  EXPECT_NE(buffer_of(folder / "c.fwck", kSensitivityBuffer), first);
}

TEST(Guided, ARunPacksByWhatItsTrainingCollected) {
  Folder folder;
  Engine engine(with_threads(2));
  RunOptions options;
  options.recipe.recipe = small_recipe(kGuided);
  options.out = folder / "x";
  run(options, engine);
  const auto text = buffer_of(folder / "x/checkpoint.fwck", kSensitivityBuffer);
  const auto sensitivity =
      parse_sensitivity({reinterpret_cast<const char*>(text.data()), text.size()}, "checkpoint");
  // Six matrices in each of two blocks stand on the 6-bit grid: a quarter goes up, a quarter down.
  std::vector<std::pair<double, std::string>> order;
  for (const auto& [name, value] : sensitivity)
    if (name.starts_with("blocks.")) order.emplace_back(value, name);
  ASSERT_EQ(order.size(), 12u);
  std::ranges::sort(order);
  const auto packed = artifact::read_artifact(folder / "x/model.fairway");
  for (std::size_t i = 0; i < order.size(); ++i) {
    const auto kind = packed.find(order[i].second)->kind;
    EXPECT_EQ(kind, i < 3    ? artifact::TensorKind::int5
                    : i >= 9 ? artifact::TensorKind::int8
                             : artifact::TensorKind::int6)
        << order[i].second;
  }
  pack_checkpoint(folder / "x/checkpoint.fwck", folder / "again.fairway", {}, engine);
  EXPECT_EQ(base::read_file(folder / "again.fairway"), base::read_file(folder / "x/model.fairway"));
}

TEST(Guided, WithoutGradientsItIsAnInputError) {
  EXPECT_THAT(input_error([] {
                small_recipe({"quant.guided_low=0.1", "train.warmdown_steps=2"});
              }),
              HasSubstr("with train.warmdown_steps = 2 there are none"));
  const auto recipe = small_recipe();
  Folder folder;
  Engine engine(with_threads(2));
  const auto corpus = prepare_corpus(recipe, engine);
  Trainer(recipe, corpus, engine).run({}, folder / "c.fwck");
  EXPECT_TRUE(buffer_of(folder / "c.fwck", kSensitivityBuffer).empty());
  EXPECT_THAT(input_error([&] {
                pack_checkpoint(folder / "c.fwck", folder / "m.fairway", {"quant.guided_high=0.1"}, engine);
              }),
              HasSubstr("the training collected no 'sensitivity'"));
}

}  // namespace
}  // namespace fairway::pipeline::testing
