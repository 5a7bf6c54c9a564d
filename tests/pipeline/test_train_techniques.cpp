// Averages, late QAT, replay and budgets, each as a switch of the loop.
#include "fairway/artifact/safetensors.h"
#include "fairway/model/family.h"
#include "stages.h"
#include "support/compare.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>

namespace fairway::pipeline::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;

/// One trained run and everything there is to compare.
struct Trained {
  std::vector<StepMetrics> log;
  TrainOutcome outcome;
  std::vector<float> raw, exported;
  std::vector<double> progress;
};

class Techniques : public ::testing::Test {
 protected:
  static Trained train(const std::vector<std::string>& set, std::optional<std::vector<double>> replay = {}) {
    const auto recipe = small_recipe(set);
    Engine engine(with_threads(2));
    const auto corpus = prepare_corpus(recipe, engine);
    Trainer trainer(recipe, corpus, engine);
    if (replay) trainer.replay(*replay);
    Trained t;
    t.outcome = trainer.run({[&](const StepMetrics& m) { t.log.push_back(m); }}, {});
    t.raw = read_weights(trainer.weights());
    t.exported = read_weights(*trainer.exported_weights());
    t.progress.assign(trainer.progress_log().begin(), trainer.progress_log().end());
    return t;
  }
};

TEST_F(Techniques, AnEmaStartsFromTheWeightsOfItsFirstStep) {
  const std::vector<std::string> common = {"train.steps=4", "average.decay=0.75"};
  auto with = [&](int start) {
    auto set = common;
    set.push_back("average.start=" + std::to_string(start));
    return train(set);
  };
  const auto at_end = with(4), before_end = with(3), never = with(5);
  EXPECT_EQ(at_end.exported, at_end.raw);
  EXPECT_EQ(at_end.outcome.average_count, 1);
  EXPECT_EQ(never.outcome.average_count, 0);
  EXPECT_EQ(never.exported, never.raw) << "an average that never began is not exported";
  // e = 0.75 theta_3 + 0.25 theta_4, and theta_3 is what a run stopped there has.
  auto stopped = common;
  stopped[0] = "train.steps=4";
  const auto recipe = small_recipe(stopped);
  std::stop_source source;
  auto options = with_threads(2);
  options.stop = source.get_token();
  Engine engine(options);
  const auto corpus = prepare_corpus(recipe, engine);
  Trainer trainer(recipe, corpus, engine);
  trainer.run({[&](const StepMetrics& m) {
                if (m.step == 3) source.request_stop();
              }},
              {});
  const auto third = read_weights(trainer.weights());
  for (std::size_t i = 0; i < third.size(); ++i)
    EXPECT_NEAR(before_end.exported[i], 0.75 * third[i] + 0.25 * before_end.raw[i], 1e-6);
  EXPECT_GT(fairway::testing::max_difference(third, before_end.raw), 1e-3);
}

TEST_F(Techniques, AnEmaInBf16HoldsBf16Values) {
  const auto t = train({"average.dtype=bf16", "average.decay=0.5"});
  const auto wide = train({"average.decay=0.5"});
  EXPECT_EQ(t.raw, wide.raw) << "an average never touches training";
  EXPECT_NE(t.exported, wide.exported);
  for (const float v : t.exported) ASSERT_EQ(v, tensor::round_to_bf16(v));
  for (std::size_t i = 0; i < wide.exported.size(); ++i)
    ASSERT_NEAR(t.exported[i], wide.exported[i], 0.02 * std::abs(wide.exported[i]) + 1e-4);
}

TEST_F(Techniques, SwaNeedsItsSmallestNumberOfSnapshots) {
  // Scale (6 - s) / 3 is below 0.9 from the fifth step on: two snapshots.
  std::vector<std::string> set = {"average.kind=swa", "average.swa_every=1", "average.swa_below=0.9",
                                  "average.swa_min=2"};
  const auto two = train(set);
  EXPECT_EQ(two.outcome.average_count, 2);
  EXPECT_NE(two.exported, two.raw);
  set.back() = "average.swa_min=3";
  const auto too_few = train(set);
  EXPECT_EQ(too_few.outcome.average_count, 0);
  EXPECT_EQ(too_few.exported, too_few.raw);
}

/// docs/spec/training.md section 11, with q levels on either side.
void fake_quantise(std::span<float> w, std::int64_t columns, int q) {
  for (std::size_t row = 0; row < w.size(); row += static_cast<std::size_t>(columns)) {
    const auto r = w.subspan(row, static_cast<std::size_t>(columns));
    float largest = 0;
    for (float v : r) largest = std::max(largest, std::abs(v));
    const float scale = std::max(largest / static_cast<float>(q), 1.0f / static_cast<float>(q));
    for (float& v : r)
      v = scale * std::clamp(std::nearbyint(v / scale), -static_cast<float>(q) - 1, static_cast<float>(q));
  }
}

TEST_F(Techniques, LateQatTrainsOnTheGridOfEachKindOfMatrix) {
  // From trained weights: fresh ones have blocks that add nothing.
  const auto recipe = small_recipe();
  Engine engine(with_threads(2));
  const auto corpus = prepare_corpus(recipe, engine);
  Folder folder;
  OpenModel model{recipe, corpus.tokenizer, nullptr, "fresh", "memory", {}};
  model.weights =
      std::make_unique<graph::ParameterStore>(model::make_layout(recipe.model), tensor::Device{}, false);
  write_weights(*model.weights, train({}).raw);
  export_safetensors(model, folder / "trained.safetensors");
  const std::vector<std::string> plain = {"train.steps=1", "train.warmdown_steps=1",
                                          "train.init=" + folder("trained.safetensors")};
  auto qat = plain;
  qat.insert(qat.end(), {"qat.attention=6", "qat.mlp=3", "qat.last_fraction=1"});
  const auto with = train(qat), without = train(plain);
  EXPECT_EQ(with.outcome.qat_step, 1);
  EXPECT_TRUE(with.log[0].fake_quantised);

  // The same loss from weights that were put on the grids by hand.
  int changed = 0;
  for (const auto& p : model.weights->layout().parameters()) {
    const bool attention = p.name.find(".attn.") != p.name.npos, mlp = p.name.find(".mlp.") != p.name.npos;
    if (p.group != graph::Group::matrix || !(attention || mlp)) continue;
    fake_quantise(model.weights->value(p.name).span<float>(), p.shape[1], attention ? 31 : 3);
    ++changed;
  }
  EXPECT_EQ(changed, 2 * 6);
  export_safetensors(model, folder / "grid.safetensors");
  const auto by_hand =
      train({"train.steps=1", "train.warmdown_steps=1", "train.init=" + folder("grid.safetensors")});
  EXPECT_NEAR(with.log[0].loss, by_hand.log[0].loss, 1e-6);
  EXPECT_GT(std::abs(with.log[0].loss - without.log[0].loss), 1e-4) << "else this test cannot tell";
  // The update goes to the masters, which are not on a grid.
  EXPECT_NE(with.raw, by_hand.raw);
  EXPECT_NE(with.raw, without.raw);
}

TEST_F(Techniques, LateQatBeginsByPartOrByScaleAndStays) {
  auto begins = [&](std::vector<std::string> more) {
    more.insert(more.begin(), {"train.steps=10", "train.warmdown_steps=5", "qat.mlp=5", "qat.attention=6"});
    std::vector<std::int64_t> acted;
    const auto t = train(more);
    for (const auto& m : t.log)
      if (m.fake_quantised) acted.push_back(m.step);
    EXPECT_TRUE(acted.empty() || acted.front() == t.outcome.qat_step);
    return acted;
  };
  EXPECT_THAT(begins({"qat.last_fraction=0.3"}), ElementsAre(8, 9, 10));
  // Scales 1 for six steps, then 0.8, 0.6, 0.4, 0.2.
  EXPECT_THAT(begins({"qat.last_fraction=0", "qat.below=0.5"}), ElementsAre(9, 10));
  EXPECT_THAT(begins({"qat.last_fraction=0.1", "qat.below=0.5"}), ElementsAre(9, 10)) << "whichever is first";
  EXPECT_THAT(begins({"qat.last_fraction=0"}), ElementsAre());
}

TEST_F(Techniques, AnInertSwitchIsLoggedAndDoesNothing) {
  const std::vector<std::string> plain = {"train.steps=4"};
  auto inert = plain;
  inert.insert(inert.end(), {"qat.mlp=5", "qat.attention=6", "qat.last_fraction=0.5", "qat.inert=true"});
  const auto with = train(inert), without = train(plain);
  EXPECT_EQ(with.outcome.qat_step, 3);
  EXPECT_EQ(without.outcome.qat_step, 0);
  EXPECT_FALSE(with.log[3].fake_quantised);
  EXPECT_EQ(with.raw, without.raw);
  inert.pop_back();
  const auto acting = train(inert);
  EXPECT_NE(acting.raw, without.raw);
  EXPECT_EQ(acting.log[1].loss, without.log[1].loss) << "steps before it are the same";
  EXPECT_NE(acting.log[2].loss, without.log[2].loss);
}

TEST_F(Techniques, AReplayGivesTheBytesOfARunByTheClock) {
  std::vector<std::string> set = {"train.schedule=wall_clock",
                                  "train.steps=100000",
                                  "train.warmdown_steps=10",
                                  "average.kind=swa",
                                  "average.swa_every=2",
                                  "average.swa_below=0.9",
                                  "qat.mlp=5",
                                  "qat.last_fraction=0.3",
                                  "train.seconds=0.4"};
  auto first = train(set);
  for (double seconds = 1.6; first.outcome.steps <= 3 && seconds < 1000; seconds *= 4) {  // a slow machine
    set.back() = fmt::format("train.seconds={}", seconds);
    first = train(set);
  }
  ASSERT_GT(first.outcome.steps, 3);
  ASSERT_EQ(first.progress.size(), static_cast<std::size_t>(first.outcome.steps));
  const auto again = train(set, first.progress);
  EXPECT_EQ(again.outcome.end, TrainEnd::replay);
  EXPECT_EQ(again.outcome.steps, first.outcome.steps);
  EXPECT_EQ(again.outcome.qat_step, first.outcome.qat_step);
  EXPECT_EQ(again.raw, first.raw);
  EXPECT_EQ(again.exported, first.exported);
  EXPECT_EQ(again.progress, first.progress);
}

TEST_F(Techniques, AnEnforcedBudgetEndsTrainingInTime) {
  const auto t = train({"train.steps=100000", "budget.train_seconds=1", "budget.enforce=true"});
  EXPECT_EQ(t.outcome.end, TrainEnd::budget);
  EXPECT_FALSE(t.outcome.interrupted);
  EXPECT_GT(t.outcome.steps, 0);
  EXPECT_LT(t.outcome.steps, 100000);
  // A step is not begun when the last ones say that it would end too late: at most the last one, slower than
  // those before, ends after it.
  if (t.log.size() > 1) {
    EXPECT_LT(t.log[t.log.size() - 2].seconds, 1);
  }
  const auto free = train({"train.steps=3", "budget.train_seconds=0.0001"});
  EXPECT_EQ(free.outcome.steps, 3) << "without enforce it is only said";
  EXPECT_EQ(free.outcome.end, TrainEnd::schedule);
}

}  // namespace
}  // namespace fairway::pipeline::testing
