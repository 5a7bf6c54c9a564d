// Decisions of the stages as functions of numbers: which steps are averaged, what is scored in how much time,
// what an adaptation may take, how sure a comparison is.
#include "fairway/pipeline/stages/adapt_stage.h"
#include "fairway/pipeline/sweep/statistics.h"
#include "fairway/pipeline/train/train_setup.h"
#include "run/budget.h"
#include "stages.h"
#include "train/train_schedule.h"

#include <gmock/gmock.h>

#include <cmath>
#include <map>

namespace fairway::pipeline::testing {
namespace {

using ::testing::ElementsAre;
using ::testing::HasSubstr;
using ::testing::IsEmpty;

/// Completed steps (counted from 1) after which the average does something.
std::vector<std::int64_t> averaged(const Recipe& recipe, AverageAction action) {
  const TrainSchedule schedule(recipe);
  std::vector<std::int64_t> steps;
  for (std::int64_t step = 0; step < recipe.train.steps; ++step)
    if (schedule.plan({step, 0}, false).average == action) steps.push_back(step + 1);
  return steps;
}

TEST(Decisions, SnapshotsAreTakenAfterEveryNthStepOfTheWarmDown) {
  // Scale (20 - s) / 10 with s steps before: below 0.75 from the fourteenth step on, 0.7 at its beginning.
  auto recipe = small_recipe({"train.steps=20", "train.warmdown_steps=10", "average.kind=swa",
                              "average.swa_every=3", "average.swa_below=0.75"});
  EXPECT_THAT(averaged(recipe, AverageAction::add), ElementsAre(15, 18));
  recipe.average.swa_every = 1;
  EXPECT_THAT(averaged(recipe, AverageAction::add), ElementsAre(14, 15, 16, 17, 18, 19, 20));
  recipe.average.swa_every = 5;
  recipe.average.swa_below = 0.5;  // strictly: 0.5 itself is the scale of step 16
  EXPECT_THAT(averaged(recipe, AverageAction::add), ElementsAre(20));
  recipe.average.swa_every = 16;
  EXPECT_THAT(averaged(recipe, AverageAction::add), IsEmpty());
}

TEST(Decisions, AnEmaIsSetAfterItsStartAndFollowsFromThen) {
  auto recipe = small_recipe({"train.steps=5"});
  EXPECT_THAT(averaged(recipe, AverageAction::add), ElementsAre(1, 2, 3, 4, 5));
  EXPECT_THAT(averaged(recipe, AverageAction::set), IsEmpty());
  recipe.average.start = 3;
  EXPECT_THAT(averaged(recipe, AverageAction::set), ElementsAre(3));
  EXPECT_THAT(averaged(recipe, AverageAction::add), ElementsAre(4, 5));
  recipe.average.kind = Average::none;
  EXPECT_THAT(averaged(recipe, AverageAction::set), IsEmpty());
}

TEST(Decisions, TheLoopEndsAndPausesWhereTheRecipeSays) {
  auto recipe = small_recipe({"train.steps=7", "train.validate_every=3", "train.checkpoint_every=2"});
  const TrainSchedule schedule(recipe);
  EXPECT_FALSE(schedule.at_end({6, 1e12}));
  EXPECT_TRUE(schedule.at_end({7, 0}));
  std::vector<int> pauses;
  for (int step = 1; step <= 7; ++step)
    if (schedule.pauses_after(step)) pauses.push_back(step);
  EXPECT_THAT(pauses, ElementsAre(2, 3, 4, 6));
  recipe.train.schedule = optim::ScheduleKind::wall_clock;
  recipe.train.seconds = 10;
  const TrainSchedule clock(recipe);
  EXPECT_FALSE(clock.at_end({3, 9999}));
  EXPECT_TRUE(clock.at_end({3, 10000}));
  EXPECT_TRUE(clock.at_end({7, 0})) << "steps are a cap";
}

TEST(Decisions, LateQatBeginsAtItsScaleOrItsPart) {
  const auto recipe = small_recipe(
      {"train.steps=10", "train.warmdown_steps=5", "qat.mlp=5", "qat.below=0.5", "qat.last_fraction=0.1"});
  const TrainSchedule schedule(recipe);
  std::vector<int> begins;
  for (int step = 0; step < 10; ++step)
    if (schedule.qat_begins({step, 0})) begins.push_back(step);
  EXPECT_THAT(begins, ElementsAre(8, 9)) << "scales 0.4 and 0.2";
  auto by_clock = recipe;
  by_clock.train.schedule = optim::ScheduleKind::wall_clock;
  by_clock.train.seconds = 100;
  by_clock.qat.below = 0;
  const TrainSchedule clock(by_clock);
  EXPECT_FALSE(clock.qat_begins({9, 89'999}));
  EXPECT_TRUE(clock.qat_begins({1, 90'000}));
}

TEST(Decisions, TargetsUnderMemoryTokensWeighNothing) {
  const auto recipe = small_recipe({"model.memory_tokens=3", "generate.tokens=0", "adapt.when=never"});
  std::vector<float> weights(static_cast<std::size_t>(2 * recipe.model.window));
  target_weights(recipe, weights);
  double sum = 0;
  for (std::size_t i = 0; i < weights.size(); ++i) {
    EXPECT_EQ(weights[i] == 0, i % static_cast<std::size_t>(recipe.model.window) < 3) << i;
    sum += static_cast<double>(weights[i]);
  }
  const double windows = static_cast<double>(recipe.train.batch_tokens) / recipe.model.window;
  EXPECT_NEAR(sum * windows / 2, 1, 1e-5) << "over all windows of a step";
}

// Scores in a given time. A window's worth takes a second; strides of d take window / d seconds.

struct Shortening {
  ScorePlan plan(bool plain, int stride, double allowed) {
    return shortened({plain, stride, {}}, 64, allowed, [&](int d) {
      asked.push_back(d);
      return d == 0 ? 1.0 : 64.0 / d;
    });
  }
  std::vector<int> asked;
};

TEST(Decisions, ScoresAreShortenedUntilTheyFit) {
  Shortening s;
  auto plan = s.plan(true, 4, 20);
  EXPECT_EQ(plan.stride, 4) << "16 + 1 s fit";
  EXPECT_EQ(plan.forecast_seconds, 17);
  plan = s.plan(true, 4, 16.9);
  EXPECT_EQ(plan.stride, 8);
  EXPECT_EQ(plan.forecast_seconds, 9);
  EXPECT_TRUE(plan.plain);
  plan = s.plan(true, 4, 2.5);
  EXPECT_EQ(plan.stride, 0) << "32 would take 2 + 1 s";
  EXPECT_EQ(plan.forecast_seconds, 1);
  plan = s.plan(false, 4, 2.5);
  EXPECT_EQ(plan.stride, 32) << "alone it fits";
  EXPECT_FALSE(plan.plain);
  plan = s.plan(false, 4, 1.5);
  EXPECT_EQ(plan.stride, 0);
  EXPECT_TRUE(plan.plain) << "something must be scored";
  EXPECT_EQ(plan.forecast_seconds, 1);
  plan = s.plan(false, 4, 0.5);
  EXPECT_TRUE(plan.plain);
  EXPECT_EQ(plan.forecast_seconds, 1) << "which is too long, and said";
  plan = s.plan(true, 0, 0.5);
  EXPECT_EQ(plan.forecast_seconds, 1);
  EXPECT_EQ(plan.stride, 0);
}

TEST(Decisions, ABudgetsReportSaysWhatWasUsedAndWhatIsOver) {
  Said said;
  Engine engine(with_threads(1, &said));
  auto recipe =
      small_recipe({"budget.train_seconds=10", "budget.eval_seconds=20", "budget.artifact_bytes=1000"});
  BudgetReport report(recipe, engine);
  report.train_seconds(10);
  report.eval_seconds(20.5, {true, 128, 19.5});
  report.artifact_bytes(1001);
  const auto& json = report.json();
  EXPECT_EQ(json["train_seconds"].dump(), R"({"used":10.0,"allowed":10.0,"ok":true})");
  EXPECT_EQ(json["eval_seconds"].dump(),
            R"({"used":20.5,"allowed":20.0,"ok":false,"forecast":19.5,"stride":128})");
  EXPECT_EQ(json["artifact_bytes"].dump(), R"({"used":1001,"allowed":1000.0,"ok":false})");
  EXPECT_THAT(report.over(), ElementsAre("budget.eval_seconds", "budget.artifact_bytes"));
  EXPECT_THAT(said.warnings,
              ElementsAre(HasSubstr("budget.eval_seconds"), HasSubstr("budget.artifact_bytes")));
  recipe.budget = {};
  recipe.budget.artifact_bytes = 0;
  BudgetReport free(recipe, engine);
  free.train_seconds(1e9);
  free.artifact_bytes(1'000'000'000'000);
  EXPECT_THAT(free.over(), IsEmpty());
  EXPECT_FALSE(free.json()["train_seconds"].contains("allowed"));
  recipe.budget.artifact_bytes = 1000;
  recipe.budget.enforce = true;
  BudgetReport strict(recipe, engine);
  EXPECT_NO_THROW(strict.artifact_bytes(1000));
  EXPECT_THAT(error_of(base::ErrorKind::failure, [&] { strict.artifact_bytes(1001); }),
              HasSubstr("1001 bytes"));
  EXPECT_EQ(strict.json()["artifact_bytes"]["used"], 1001) << "entered before it fails";
}

TEST(Decisions, AnAdaptationKeepsToTheBudgetOfItsRecipe) {
  Engine engine(with_threads(1));
  auto recipe =
      small_recipe({"data.train_bytes=60000", "score.tokens=300", "score.stride=0", "adapt.when=streaming",
                    "adapt.chunk_windows=1", "budget.eval_seconds=0.000000001", "budget.enforce=true"});
  const auto corpus = prepare_corpus(recipe, engine);
  const auto model = fresh_model(recipe, corpus.tokenizer, engine);
  auto adapted = [&](const AdaptExtras& extras = {}) {
    return adapt_and_score(recipe, *model.weights, corpus.tokenizer, corpus.validation, engine, extras);
  };
  EXPECT_THAT(input_error([&] { adapted(); }), HasSubstr("budget.eval_seconds"));
  AdaptExtras extras;
  extras.enforce_budget = false;
  EXPECT_TRUE(adapted(extras).run.over_budget) << "said, where nobody enforces it";
  recipe.budget.enforce = false;
  EXPECT_TRUE(adapted().run.over_budget);
  recipe.budget.eval_seconds = 0;
  EXPECT_FALSE(adapted().run.over_budget);
}

// Comparisons of samples of unequal sizes, by the formulas written out.

TEST(Statistics, WelchsFreedomKnowsBothSizes) {
  const std::vector<double> a = {1.0, 2.0, 4.0}, b = {3.0, 3.5, 5.0, 9.0, 2.5, 4.0, 7.0};
  auto moments = [](const std::vector<double>& v) {
    double m = 0, s = 0;
    for (const double x : v) m += x / static_cast<double>(v.size());
    for (const double x : v) s += (x - m) * (x - m) / static_cast<double>(v.size() - 1);
    return std::pair(m, s);
  };
  const auto [ma, sa] = moments(a);
  const auto [mb, sb] = moments(b);
  const double error = sa / 3 + sb / 7;
  const double freedom = error * error / (std::pow(sa / 3, 2) / 2 + std::pow(sb / 7, 2) / 6);
  for (const double shift : {0.0, -1.5}) {
    const auto test = welch(a, b, shift);
    ASSERT_TRUE(test);
    EXPECT_NEAR(test->t, (ma - mb - shift) / std::sqrt(error), 1e-12);
    EXPECT_NEAR(test->freedom, freedom, 1e-12);
    EXPECT_NEAR(test->p_less, student_t_cdf(test->t, freedom), 1e-12);
    EXPECT_NEAR(test->p, 2 * std::min(test->p_less, 1 - test->p_less), 1e-12);
  }
  EXPECT_NEAR(welch(b, a)->freedom, freedom, 1e-12);
  EXPECT_GT(std::abs(freedom - error * error / (std::pow(sa / 3, 2) / 2 + std::pow(sb / 7, 2) / 2)), 0.5)
      << "else this test cannot tell";
}

}  // namespace
}  // namespace fairway::pipeline::testing
