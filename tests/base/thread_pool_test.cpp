#include "fairway/base/thread_pool.h"

#include "fairway/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <atomic>
#include <chrono>
#include <mutex>
#include <set>
#include <stdexcept>
#include <thread>
#include <vector>

namespace fairway::base {
namespace {

class ThreadPoolTest : public testing::TestWithParam<int> {};

TEST_P(ThreadPoolTest, EveryIndexExactlyOnce) {
  ThreadPool pool(GetParam());
  EXPECT_EQ(pool.threads(), GetParam());
  for (const std::int64_t count : {0, 1, 2, 3, 7, 64, 5000}) {
    std::vector<std::atomic<int>> calls(static_cast<std::size_t>(count));
    pool.run(count, [&](std::int64_t i) { ++calls[static_cast<std::size_t>(i)]; });
    for (const auto& n : calls) ASSERT_EQ(n.load(), 1);
  }
  pool.run(-3, [](std::int64_t) { FAIL(); });
}

// Many short runs, so that starts and ends of neighbouring runs overlap with workers that fall asleep.
TEST_P(ThreadPoolTest, ManyRuns) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 3000; ++round) {
    std::atomic<std::int64_t> sum{0};
    pool.run(5, [&](std::int64_t i) { sum += i + round; });
    ASSERT_EQ(sum.load(), 10 + 5 * round);
    if (round % 500 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(5));  // the workers sleep
  }
}

TEST_P(ThreadPoolTest, WritesOfTheBodyAreSeenAfterTheRun) {
  ThreadPool pool(GetParam());
  std::vector<std::int64_t> values(100);
  for (int round = 0; round < 300; ++round) {
    pool.run(100, [&](std::int64_t i) { values[static_cast<std::size_t>(i)] += i; });
    for (std::int64_t i = 0; i < 100; ++i) ASSERT_EQ(values[static_cast<std::size_t>(i)], i * (round + 1));
  }
}

TEST_P(ThreadPoolTest, FirstExceptionIsRethrownAndThePoolStaysUsable) {
  ThreadPool pool(GetParam());
  for (int round = 0; round < 50; ++round) {
    EXPECT_THROW(pool.run(1000,
                          [](std::int64_t i) {
                            if (i == 17) throw std::out_of_range("17");
                          }),
                 std::out_of_range);
    std::atomic<int> calls{0};
    pool.run(100, [&](std::int64_t) { ++calls; });
    ASSERT_EQ(calls.load(), 100);
  }
}

TEST_P(ThreadPoolTest, ThreadIndexIsInRangeAndNeverSharedByTwoBodies) {
  ThreadPool pool(GetParam());
  std::vector<std::atomic<bool>> inside(static_cast<std::size_t>(pool.threads()));
  std::atomic<bool> clash{false};
  pool.run(2000, [&](std::int64_t) {
    auto& mine = inside.at(static_cast<std::size_t>(ThreadPool::thread_index()));
    if (mine.exchange(true)) clash = true;
    mine = false;
  });
  EXPECT_FALSE(clash.load());
}

TEST_P(ThreadPoolTest, NestedRunOnTheSamePoolIsRefused) {
  ThreadPool pool(GetParam());
  EXPECT_THROW(pool.run(4, [&](std::int64_t) { pool.run(1, [](std::int64_t) {}); }), Error);
  EXPECT_NO_THROW(pool.run(4, [](std::int64_t) {}));
}

/// All bodies wait for each other: a run only ends when all threads take part in it, however late the system
/// lets them run. In run after run, awake or asleep before it.
TEST_P(ThreadPoolTest, AllThreadsTakePartInEveryRun) {
  ThreadPool pool(GetParam());
  const int threads = pool.threads();
  std::mutex mutex;
  for (int round = 0; round < 200; ++round) {
    std::set<std::thread::id> seen;
    std::atomic<int> arrived{0};
    pool.run(threads, [&](std::int64_t) {
      ++arrived;
      while (arrived.load() < threads) std::this_thread::yield();
      const std::scoped_lock lock(mutex);
      seen.insert(std::this_thread::get_id());
    });
    ASSERT_EQ(static_cast<int>(seen.size()), threads) << "round " << round;
    if (round % 50 == 0) std::this_thread::sleep_for(std::chrono::milliseconds(2));  // the workers sleep
  }
}

INSTANTIATE_TEST_SUITE_P(Threads, ThreadPoolTest, testing::Values(1, 2, 3, 8));

TEST(ThreadPool, CountsTheRunsThatHaveWorkForAll) {
  ThreadPool pool(3), alone(1);
  for (const std::int64_t count : {0, 1, 2, 3, 4, 100}) {
    pool.run(count, [](std::int64_t) {});
    alone.run(count, [](std::int64_t) {});
  }
  EXPECT_EQ(pool.shared_runs(), 3);
  EXPECT_EQ(alone.shared_runs(), 0);
}

TEST(ThreadPool, AnotherPoolMayRunInsideABody) {
  ThreadPool outer(2), inner(2);
  std::atomic<int> calls{0};
  std::mutex one_at_a_time;
  outer.run(4, [&](std::int64_t) {
    const int index = ThreadPool::thread_index();
    const std::scoped_lock lock(one_at_a_time);
    inner.run(3, [&](std::int64_t) { ++calls; });
    EXPECT_EQ(ThreadPool::thread_index(), index);
  });
  EXPECT_EQ(calls.load(), 12);
}

TEST(ThreadPool, RefusesANegativeCount) { EXPECT_THROW(ThreadPool(-1), Error); }

TEST(ThreadPool, DefaultIsAllCoresThatMayBeUsed) {
  EXPECT_GE(available_cores(), 1);
  EXPECT_LE(available_cores(), static_cast<int>(std::thread::hardware_concurrency()));
  EXPECT_EQ(ThreadPool().threads(), available_cores());
}

}  // namespace
}  // namespace fairway::base
