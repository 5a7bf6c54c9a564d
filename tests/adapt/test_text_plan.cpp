// Shards, batches and schedules at the published sizes (docs/spec/ttt.md sections 1 and 3 to 6).
#include "adapt/small.h"
#include "fairway/adapt/text_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <set>

namespace fairway::adapt {
namespace {

constexpr std::int64_t kTargets = 62'021'632;  // 30,284 windows of 2,048
constexpr int kWindow = 2048;

Protocol published(When when, Order order, Shards shards, int batch) {
  Protocol p;
  p.when = when;
  p.virtual_ranks = 8;
  p.batch_windows = p.chunk_windows = batch;
  p.order = order;
  p.shards = shards;
  return p;
}

TEST(EpochPlan, TwoPhases417) {
  const EpochPlan plan(published(When::train_then_score, Order::permuted, Shards::windows, 64), kTargets,
                       kWindow);
  EXPECT_EQ(plan.windows(), 30'208);
  EXPECT_EQ(plan.steps(), 59);
  const auto order = plan.order(0, 3);
  const std::set<std::int64_t> all(order.begin(), order.end());
  EXPECT_EQ(all.size(), 30'208u);
  EXPECT_EQ(*all.rbegin(), 30'207);
  EXPECT_NE(order, plan.order(0, 4));
  EXPECT_NE(order, plan.order(1, 3));
  EXPECT_EQ(order, plan.order(0, 3));
  const auto step = plan.step(order, 58);
  ASSERT_EQ(step.size(), 8u);
  EXPECT_EQ(step[5].windows.size(), 64u);
  EXPECT_EQ(step[5].windows[7], order[512 * 58 + 64 * 5 + 7] * kWindow);
}

TEST(EpochPlan, FewerWindowsThanABatchAreAllUsed) {
  auto p = published(When::train_then_score, Order::permuted, Shards::windows, 64);
  const EpochPlan plan(p, 100 * kWindow, kWindow);
  EXPECT_EQ(plan.windows(), 100);
  const auto step = plan.step(plan.order(0, 0), 0);
  ASSERT_EQ(step.size(), 2u);
  EXPECT_EQ(step[1].windows.size(), 36u);
}

TEST(EpochPlan, FullSgd398) {
  const EpochPlan plan(published(When::train_then_score, Order::natural, Shards::windows, 32), kTargets,
                       kWindow);
  EXPECT_EQ(plan.steps(), 119);
  EXPECT_EQ(plan.windows(), 30'284);
  std::set<std::size_t> last;
  for (const auto& part : plan.step({}, 118)) last.insert(part.windows.size());
  EXPECT_EQ(last, (std::set<std::size_t>{9, 10}));
  EXPECT_EQ(plan.step({}, 0)[1].windows[0], 3785 * kWindow);
}

TEST(EpochPlan, CosineAdamW518CountsOneStepTooFew) {
  const EpochPlan plan(published(When::train_then_score, Order::natural, Shards::targets, 32), kTargets,
                       kWindow);
  EXPECT_EQ(plan.steps(), 119);
  EXPECT_EQ(plan.schedule_steps(), 118);
  EXPECT_EQ(plan.windows(), 8 * (118 * 32 + 9));
  EXPECT_EQ(plan.step({}, 0)[1].windows[0], 7'752'704);  // half a window off the grid
  EXPECT_EQ(plan.step({}, 118)[0].windows.size(), 9u);
  // The last step of 50 epochs lies beyond the schedule's end.
  EXPECT_NEAR(lr_scale(Schedule::cosine_steps, {.step = 5949, .steps = 50 * 118}), 1.7e-4, 2e-5);
}

TEST(EpochPlan, ShardsOfTargetsAreRoundedDownAndTheScheduleIsShortByAWindow) {
  struct Case {
    int ranks, batch;
    std::int64_t targets, steps, schedule_steps, windows;
  };
  for (const auto& c : {Case{3, 1, 14, 1, 1, 3},    // shards of 4 2/3 targets: of 4
                        Case{1, 1, 8, 3, 3, 3},     // on the grid nothing starts in a shard's last window
                        Case{2, 1, 18, 4, 3, 8},    // shards of 9 are half a window off it
                        Case{2, 2, 20, 2, 2, 8},    // two whole batches
                        Case{2, 2, 23, 3, 2, 10},   // and one of a single window
                        Case{1, 5, 4, 1, 1, 2}}) {  // less than a batch still counts as a step
    SCOPED_TRACE(fmt::format("{} targets, {} ranks, batches of {}", c.targets, c.ranks, c.batch));
    auto p = published(When::train_then_score, Order::natural, Shards::targets, c.batch);
    p.virtual_ranks = c.ranks;
    const EpochPlan plan(p, c.targets, 2);
    EXPECT_EQ(plan.steps(), c.steps);
    EXPECT_EQ(plan.schedule_steps(), c.schedule_steps);
    EXPECT_EQ(plan.windows(), c.windows);
  }
}

TEST(EpochPlan, AnyWindowMayComeLast) {
  auto p = published(When::train_then_score, Order::permuted, Shards::windows, 4);
  p.virtual_ranks = 1;
  std::set<std::int64_t> last;
  for (int epoch = 0; epoch < 64; ++epoch) last.insert(EpochPlan(p, 8, 2).order(0, epoch).back());
  EXPECT_EQ(last, (std::set<std::int64_t>{0, 1, 2, 3}));
}

TEST(StreamPlan, StreamingMinimum573) {
  const StreamPlan plan(published(When::score_first, Order::natural, Shards::targets, 16), kTargets + 1,
                        kWindow, 0, score::Tail::published);
  EXPECT_EQ(plan.chunks(3), 237);
  EXPECT_EQ(plan.chunk(2, 236).trained.size(), 9u);
  EXPECT_EQ(plan.chunk(2, 1).first, 2 * 7'752'704 + 32'768);
  EXPECT_EQ(plan.scored_windows() * kWindow, 62'013'440);
  EXPECT_EQ(237 * 1 / 3, 79);
  EXPECT_EQ(237 * 2 / 3, 158);
}

/// Every target once, whatever the stride and the end.
void expect_cover(const StreamPlan& plan, int ranks, std::int64_t targets) {
  std::int64_t next = 0;
  for (int r = 0; r < ranks; ++r)
    for (std::int64_t i = 0; i < plan.chunks(r); ++i) {
      const auto chunk = plan.chunk(r, i);
      EXPECT_EQ(chunk.first, next);
      for (const auto& w : chunk.scored) {
        EXPECT_EQ(w.start + w.score_from, next);
        next = w.start + w.length;
      }
      EXPECT_EQ(next, chunk.first + chunk.count);
      for (auto first : chunk.trained) EXPECT_TRUE(first >= chunk.first && first + 16 <= next);
    }
  EXPECT_EQ(next, targets);
}

TEST(StreamPlan, ScoresEveryTargetOnceInOrder) {
  for (int ranks : {1, 3})
    for (int stride : {0, 4, 16})
      for (std::int64_t tokens : {200, 193, 180}) {
        SCOPED_TRACE(fmt::format("{} ranks, stride {}, {} tokens", ranks, stride, tokens));
        Protocol p;
        p.virtual_ranks = ranks;
        p.chunk_windows = 2;
        expect_cover(StreamPlan(p, tokens, 16, stride, score::Tail::clean), ranks, tokens - 1);
      }
}

TEST(Schedules, TheRatesThatTheLogsShow) {
  // docs/spec/results.md section 5: phase 1 of 417, epochs counted from 1.
  auto at = [](std::int64_t e) {
    return 0.01 * lr_scale(Schedule::cosine_epoch, {.epoch = e - 1, .epochs = 50});
  };
  EXPECT_NEAR(at(1), 0.01, 1e-9);
  EXPECT_NEAR(at(10), 0.009222, 5e-7);
  EXPECT_NEAR(at(26), 0.005, 5e-7);
  EXPECT_NEAR(at(41), 0.000955, 5e-7);
  EXPECT_NEAR(at(50), 0.000010, 5e-7);
  EXPECT_NEAR(lr_scale(Schedule::cosine_pass, {.index = 236, .count = 237}), 4.4e-5, 1e-6);
  EXPECT_EQ(lr_scale(Schedule::constant, {.epoch = 3, .index = 9, .step = 7}), 1.0);
}

std::string input_error(const std::function<void()>& body) {
  try {
    body();
  } catch (const base::Error& e) {
    return e.kind() == base::ErrorKind::input ? e.what() : "(not an input error)";
  }
  return "";
}

/// The number of tokens that the error names is enough, one less is not.
void expect_names_enough(const std::function<void(std::int64_t)>& make, std::int64_t too_few) {
  const auto error = input_error([&] { make(too_few); });
  ASSERT_NE(error.find("need at least "), error.npos) << error;
  const auto needed = std::stoll(error.substr(error.find("at least ") + 9));
  EXPECT_EQ(input_error([&] { make(needed); }), "");
  EXPECT_NE(input_error([&] { make(needed - 1); }), "");
}

TEST(Plans, ATextTooShortNamesHowManyTokensItTakes) {
  for (int ranks : {1, 8}) {
    for (auto shards : {Shards::windows, Shards::targets}) {
      Protocol p;
      p.virtual_ranks = ranks;
      p.shards = shards;
      p.chunk_windows = 1;
      expect_names_enough([&](std::int64_t n) { EpochPlan(p, n - 1, 16); }, 10);
    }
    Protocol p;
    p.virtual_ranks = ranks;
    p.order = Order::permuted;
    expect_names_enough([&](std::int64_t n) { EpochPlan(p, n - 1, 16); }, 10);
  }
  Protocol stream;  // one chunk would be scored and nothing trained
  stream.chunk_windows = 2;
  const auto error = input_error([&] { StreamPlan(stream, 33, 16, 0, score::Tail::clean); });
  EXPECT_THAT(error, ::testing::HasSubstr("33 tokens, too few"));
  EXPECT_EQ(input_error([&] { StreamPlan(stream, 50, 16, 0, score::Tail::clean); }), "");
}

TEST(Protocol, CombinationsThatMeanNothingAreInputErrors) {
  auto broken = [](auto change) {
    Protocol p;
    change(p);
    return input_error([&] { validate(p); });
  };
  EXPECT_EQ(broken([](Protocol&) {}), "");
  EXPECT_THAT(broken([](Protocol& p) { p.pass_lr = {0, 1}; }), ::testing::HasSubstr("choose mixture"));
  EXPECT_THAT(broken([](Protocol& p) { p.combination = score::Combination::minimum; }),
              ::testing::HasSubstr("1 pass(es)"));
  EXPECT_THAT(broken([](Protocol& p) { p.order = Order::permuted; }), ::testing::HasSubstr("adapt.order"));
  EXPECT_THAT(broken([](Protocol& p) { p.phases.emplace_back(); }), ::testing::HasSubstr("adapt.then"));
  EXPECT_THAT(broken([](Protocol& p) { p.mixture_weights = {1}; }),
              ::testing::HasSubstr("adapt.mixture_weights"));
  EXPECT_THAT(broken([](Protocol& p) { p.when = When::train_then_score, p.rotate = true; }),
              ::testing::HasSubstr("adapt.rotate"));
}

}  // namespace
}  // namespace fairway::adapt
