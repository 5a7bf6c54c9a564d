#include "fairway/score/window_plan.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>
#include <tuple>
#include <vector>

#include "fairway/base/error.h"

namespace fairway::score {
namespace {

constexpr std::int64_t kU = 62'021'632;  // docs/spec/evaluation.md section 1

/// How often each target is scored, with each target's context (inputs up to and including its own).
struct Coverage {
  std::vector<int> times;
  std::vector<std::int32_t> least_context;
};

Coverage cover(const WindowPlan& plan) {
  Coverage c{std::vector<int>(static_cast<std::size_t>(plan.targets())),
             std::vector<std::int32_t>(static_cast<std::size_t>(plan.targets()), INT32_MAX)};
  for (std::int64_t i = 0; i < plan.size(); ++i) {
    const Window w = plan[i];
    EXPECT_GE(w.length, 1);
    EXPECT_LE(w.length, plan.window());
    EXPECT_LT(w.score_from, w.length);
    EXPECT_GE(w.score_from, plan.window() - w.score_last)
        << "scored position outside of what the Program returns";
    EXPECT_LE(w.start + w.length, plan.targets());
    for (std::int32_t p = w.score_from; p < w.length; ++p) {
      const auto target = static_cast<std::size_t>(w.start + p);
      ++c.times[target];
      c.least_context[target] = std::min(c.least_context[target], p + 1);
    }
  }
  return c;
}

TEST(WindowPlan, PublishedNumbersOfTheValidationSplit) {
  // Window and scored counts of docs/spec/evaluation.md sections 2 and 3; any N with the right U gives them.
  for (std::int64_t tokens : {kU + 1, kU + 2, kU + 2048}) {
    const auto plain = WindowPlan::plain(tokens, 2048, Tail::published);
    EXPECT_EQ(plain.targets(), kU);
    EXPECT_EQ(plain.size(), 30'284);
    EXPECT_EQ(plain.scored(), kU);
    const auto d64 = WindowPlan::sliding(tokens, 2048, 64, Tail::published);
    EXPECT_EQ(d64.size(), 969'088);
    EXPECT_EQ(d64.scored(), 62'023'616);
    EXPECT_EQ(d64.repeats_from(), kU - 64);
    const auto d32 = WindowPlan::sliding(tokens, 2048, 32, Tail::published);
    EXPECT_EQ(d32.size(), 1'938'176);
    EXPECT_EQ(d32.scored(), 62'023'648);
    EXPECT_EQ(d32.skipped_targets(), tokens - 1 - kU);
  }
  // The clean variant stops at w = U - S.
  const auto clean = WindowPlan::sliding(kU + 1, 2048, 64);
  EXPECT_EQ(clean.size(), (kU - 2048) / 64 + 1);
  EXPECT_EQ(clean.scored(), kU);
  EXPECT_EQ(clean[clean.size() - 1].start, kU - 2048);
}

TEST(WindowPlan, PublishedSlidingIsTheScriptsLoop) {
  for (std::int32_t window : {1, 4, 12}) {
    for (std::int32_t stride = 1; stride <= window; ++stride) {
      for (std::int64_t tokens = window + 1; tokens < 5 * window + 3; ++tokens) {
        const std::int64_t u = (tokens - 1) / window * window;
        std::vector<Window> expected;
        std::int64_t scored = 0;
        for (std::int64_t w = 0; w < u; w += stride) {
          const auto n = static_cast<std::int32_t>(std::min<std::int64_t>(window, u - w));
          const std::int32_t from = w == 0 ? 0 : std::max(n - stride, 0);
          scored += n - from;
          expected.push_back({w, n, from, from >= window - stride ? stride : window});
        }
        const auto plan = WindowPlan::sliding(tokens, window, stride, Tail::published);
        ASSERT_EQ(plan.size(), static_cast<std::int64_t>(expected.size()));
        for (std::int64_t i = 0; i < plan.size(); ++i)
          ASSERT_EQ(plan[i], expected[static_cast<std::size_t>(i)])
              << "window " << i << " of N " << tokens << " S " << window << " d " << stride;
        EXPECT_EQ(plan.scored(), scored);
        const auto coverage = cover(plan);
        for (std::int64_t t = 0; t < u; ++t) {
          const int times = coverage.times[static_cast<std::size_t>(t)];
          ASSERT_GE(times, 1);
          if (t < plan.repeats_from()) {
            ASSERT_EQ(times, 1);
          }
        }
      }
    }
  }
}

TEST(WindowPlan, CleanScoresEachTargetOnceWithTheStridesContext) {
  for (std::int32_t window : {1, 2, 5, 16}) {
    for (std::int32_t stride = 1; stride <= window; ++stride) {
      for (std::int64_t tokens = 2; tokens < 4 * window + 5; ++tokens) {
        for (const bool plain : {false, true}) {
          const auto plan =
              plain ? WindowPlan::plain(tokens, window) : WindowPlan::sliding(tokens, window, stride);
          ASSERT_EQ(plan.targets(), tokens - 1);
          ASSERT_EQ(plan.scored(), tokens - 1);
          const auto coverage = cover(plan);
          for (std::int64_t t = 0; t < tokens - 1; ++t) {
            const auto i = static_cast<std::size_t>(t);
            ASSERT_EQ(coverage.times[i], 1)
                << "target " << t << " of N " << tokens << " S " << window << " d " << stride;
            if (!plain) {
              const auto full = static_cast<std::int32_t>(std::min<std::int64_t>(t + 1, window - stride + 1));
              ASSERT_GE(coverage.least_context[i], full);
            }
          }
        }
      }
    }
  }
}

TEST(WindowPlan, ALeadIsNeverScoredAndEveryTargetStillIsOnce) {
  for (std::int32_t window : {2, 5, 16})
    for (std::int32_t lead = 1; lead < window; ++lead)
      for (std::int32_t stride = 1; stride <= window - lead; ++stride)
        for (std::int64_t tokens = 2; tokens < 3 * window + 5; ++tokens)
          for (const bool plain : {false, true}) {
            const auto plan = plain ? WindowPlan::plain(tokens, window, Tail::clean, lead)
                                    : WindowPlan::sliding(tokens, window, stride, Tail::clean, lead);
            ASSERT_EQ(plan.scored(), tokens - 1);
            const auto lengths = plan.score_lengths();
            std::int64_t next = 0;
            for (std::int64_t i = 0; i < plan.size(); ++i) {
              const auto w = plan[i];
              ASSERT_GE(w.score_from, lead);
              ASSERT_LE(w.length, window);
              ASSERT_GE(w.score_last, window - w.score_from);
              ASSERT_TRUE(std::ranges::count(lengths, w.score_last));
              ASSERT_EQ(w.start + w.score_from, next) << "N " << tokens << " S " << window << " K " << lead;
              ASSERT_GT(w.length, w.score_from);
              next = w.start + w.length;
            }
            ASSERT_EQ(next, tokens - 1);
          }
  EXPECT_THROW(WindowPlan::sliding(100, 16, 13, Tail::clean, 4), base::Error);
  EXPECT_THROW(WindowPlan::plain(100, 16, Tail::clean, 16), base::Error);
  EXPECT_THROW(WindowPlan::plain(100, 16, Tail::published, 4), base::Error);
}

/// Pieces as training cuts them: a window never begins inside one, and holds as many as fit.
TEST(WindowPlan, WindowsFollowDocuments) {
  std::mt19937_64 random(5);
  for (int round = 0; round < 300; ++round) {
    const std::int32_t window = 1 + static_cast<std::int32_t>(random() % 12);
    const std::int64_t tokens = 2 + static_cast<std::int64_t>(random() % 80);
    const auto rarity = 1 + random() % 20;
    std::vector<bool> begins(static_cast<std::size_t>(tokens));
    for (auto&& b : begins) b = random() % rarity == 0;
    const auto plan = WindowPlan::documents(
        tokens, window, [&](std::int64_t i) { return begins[static_cast<std::size_t>(i)]; });
    std::vector<std::int64_t> pieces = {0};  // where pieces begin
    for (std::int64_t i = 1; i < tokens - 1; ++i)
      if (begins[static_cast<std::size_t>(i)] || i - pieces.back() == window) pieces.push_back(i);
    pieces.push_back(tokens - 1);
    EXPECT_EQ(plan.scored(), tokens - 1);
    std::int64_t next = 0;
    for (std::int64_t i = 0; i < plan.size(); ++i) {
      const auto w = plan[i];
      EXPECT_EQ(w.start, next);
      EXPECT_EQ(std::tuple(w.score_from, w.score_last), std::tuple(0, window));
      EXPECT_TRUE(w.length > 0 && w.length <= window);
      EXPECT_TRUE(std::ranges::count(pieces, w.start));
      next = w.start + w.length;
      const auto after = std::ranges::upper_bound(pieces, next);
      EXPECT_TRUE(after == pieces.end() || *after - w.start > window) << "one more would fit";
    }
    EXPECT_EQ(next, tokens - 1);
  }
  EXPECT_THROW(WindowPlan::documents(1, 8, [](std::int64_t) { return false; }), base::Error);
}

TEST(WindowPlan, PublishedTailCountsTheLastStrideSOverDTimes) {
  const auto plan = WindowPlan::sliding(4 * 64 + 1, 64, 8, Tail::published);
  const auto coverage = cover(plan);
  for (std::size_t t = 0; t < coverage.times.size(); ++t)
    EXPECT_EQ(coverage.times[t], t < coverage.times.size() - 8 ? 1 : 64 / 8) << t;
}

TEST(WindowPlan, NeedsAtMostTwoPrograms) {
  EXPECT_EQ(WindowPlan::plain(1000, 64).score_lengths(), (std::vector<std::int32_t>{64}));
  EXPECT_EQ(WindowPlan::sliding(1000, 64, 8).score_lengths(), (std::vector<std::int32_t>{64, 8}));
  EXPECT_EQ(WindowPlan::sliding(30, 64, 8).score_lengths(), (std::vector<std::int32_t>{64}));
}

TEST(WindowPlan, RefusesWhatCannotBeScored) {
  EXPECT_THROW(WindowPlan::plain(1, 8), base::Error);
  EXPECT_THROW(WindowPlan::plain(10, 0), base::Error);
  EXPECT_THROW(WindowPlan::sliding(10, 8, 0), base::Error);
  EXPECT_THROW(WindowPlan::sliding(10, 8, 9), base::Error);
  EXPECT_THROW(WindowPlan::sliding(8, 8, 4, Tail::published), base::Error);
}

}  // namespace
}  // namespace fairway::score
