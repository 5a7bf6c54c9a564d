// The whole update: clipping over all groups, threads, NaN, resuming, memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <set>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/optim/optimizer.h"
#include "fairway/tensor/dtype.h"
#include "helpers.h"

namespace {
std::atomic<long> allocations{0};
}

// Counts what the tests below allocate. Plain malloc, as the default operators.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size ? size : 1);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace fairway::optim {
namespace {

constexpr std::int64_t elements = 96 * 64 + 64 * 160 + 64 * 64 + 20'000 + 301 + 7;

/// Three matrices, a table, two ranges of scalars, and a frozen rest of 7.
ParameterMap parameter_map() {
  ParameterMap map;
  map.matrices = {{"a", 0, 96, 64}, {"b", 6144, 64, 160}, {"c", 16384, 64, 64}};
  map.tables = {{"embedding", 20480, 40480}};
  map.scalars = {{"scales", 40480, 40680}, {"gains", 40680, 40781}};
  return map;
}

OptimizerConfig small_config() {
  OptimizerConfig config;
  config.muon_momentum.steps = 12;
  config.tables = Storage::bf16;
  config.schedule = {ScheduleKind::steps, 20, 0.0, 8};
  return config;
}

struct Training {
  explicit Training(int threads, OptimizerConfig config = small_config())
      : pool(threads),
        values(normals("values", elements, 0.1)),
        gradients(elements),
        optimizer(config, parameter_map(), values, gradients, pool) {
    optimizer.round_to_storage(values);
  }
  StepReport step(std::int64_t s) {
    std::ranges::copy(normals("g" + std::to_string(s), elements, 0.01), gradients.begin());
    return optimizer.step({s, 0.0});
  }
  base::ThreadPool pool;
  std::vector<float> values, gradients;
  Optimizer optimizer;
};

TEST(Optimizer, ThreadsDoNotChangeABit) {
  Training one(1), two(2), five(5);
  for (std::int64_t s = 0; s < 6; ++s) {
    const auto a = one.step(s), b = two.step(s), c = five.step(s);
    ASSERT_EQ(a.gradient.norm, b.gradient.norm);
    ASSERT_EQ(a.gradient.norm, c.gradient.norm);
    ASSERT_EQ(0, std::memcmp(one.values.data(), two.values.data(), elements * sizeof(float)));
    ASSERT_EQ(0, std::memcmp(one.values.data(), five.values.data(), elements * sizeof(float)));
  }
}

TEST(Optimizer, ClipsByTheNormOfAllGroups) {
  Training run(1);
  const auto report = run.step(13);
  double sum = 0;
  for (std::size_t i = 0; i < elements - 7; ++i) sum += std::pow(static_cast<double>(run.gradients[i]), 2);
  EXPECT_NEAR(report.gradient.norm, std::sqrt(sum), 1e-9) << "the frozen rest does not count";
  EXPECT_FLOAT_EQ(report.clip, static_cast<float>(0.3 / (std::sqrt(sum) + 1e-6)));
  EXPECT_LT(report.clip, 1.0f);
  EXPECT_DOUBLE_EQ(report.lr_scale, 7.0 / 8.0);
  EXPECT_DOUBLE_EQ(report.momentum, 0.99);
}

TEST(Optimizer, GroupsHaveTheirOwnRatesAndTheRestIsFrozen) {
  OptimizerConfig config = small_config();
  config.adam_weight_decay = config.muon_weight_decay = 0.0;
  config.tables = Storage::f32;
  Training run(2, config);
  const auto before = run.values;
  run.step(0);
  // The first AdamW step moves every entry by its rate.
  EXPECT_NEAR(std::abs(run.values[21'000] - before[21'000]), 0.035, 1e-4);
  EXPECT_NEAR(std::abs(run.values[40'500] - before[40'500]), 0.025, 1e-4);
  EXPECT_NEAR(std::abs(run.values[40'780] - before[40'780]), 0.025, 1e-4);
  double moved = 0;
  for (std::size_t i = 16'384; i < 20'480; ++i)
    moved += std::pow(static_cast<double>(run.values[i]) - before[i], 2);
  // An approximately orthogonal 64 x 64 update: norm 0.025 * 8, singular values between 0.7 and 1.2.
  EXPECT_NEAR(std::sqrt(moved), 0.2, 0.05);
  for (std::size_t i = elements - 7; i < elements; ++i) EXPECT_EQ(run.values[i], before[i]);
}

TEST(Optimizer, BadGradientsChangeNothing) {
  Training run(2);
  run.step(0);
  const auto values = run.values;
  std::vector<std::vector<std::byte>> states;
  for (const auto& buffer : run.optimizer.state())
    states.emplace_back(buffer.bytes.begin(), buffer.bytes.end());
  for (const std::size_t where : {std::size_t{5}, std::size_t{30'000}, std::size_t{40'700}}) {
    run.gradients[where] = std::numeric_limits<float>::quiet_NaN();
    EXPECT_FALSE(run.optimizer.step({1, 0.0}).gradient.finite);
    run.gradients[where] = 0.0f;
  }
  EXPECT_EQ(run.values, values);
  const auto after = run.optimizer.state();
  for (std::size_t i = 0; i < after.size(); ++i)
    EXPECT_TRUE(std::ranges::equal(after[i].bytes, states[i])) << after[i].name;
}

TEST(Optimizer, ResumedRunEqualsUninterrupted) {
  Training whole(2), first(1), second(2);
  for (std::int64_t s = 0; s < 8; ++s) whole.step(s);
  for (std::int64_t s = 0; s < 4; ++s) first.step(s);
  second.values = first.values;  // same size: the views stay
  auto from = first.optimizer.state(), to = second.optimizer.state();
  ASSERT_EQ(from.size(), to.size());
  std::set<std::string> names;
  for (std::size_t i = 0; i < from.size(); ++i) {
    ASSERT_EQ(from[i].name, to[i].name);
    ASSERT_EQ(from[i].bytes.size(), to[i].bytes.size());
    names.insert(from[i].name);
    std::ranges::copy(from[i].bytes, to[i].bytes.begin());
  }
  EXPECT_EQ(names.size(), from.size());
  EXPECT_TRUE(names.count("muon.b.momentum") && names.count("adamw.embedding.v") &&
              names.count("adamw.gains.step"));
  for (std::int64_t s = 4; s < 8; ++s) second.step(s);
  EXPECT_EQ(0, std::memcmp(whole.values.data(), second.values.data(), elements * sizeof(float)));
}

TEST(Optimizer, TablesStayInTheirStorageType) {
  Training run(2);
  run.step(0);
  for (std::size_t i = 20'480; i < 40'480; ++i)
    ASSERT_EQ(run.values[i], tensor::round_to_bf16(run.values[i]));
  std::size_t rounded = 0;
  for (std::size_t i = 0; i < 20'480; ++i) rounded += run.values[i] == tensor::round_to_bf16(run.values[i]);
  EXPECT_LT(rounded, 1000u) << "only the tables are rounded";
}

TEST(Optimizer, StepsDoNotAllocate) {
  Training run(2);
  run.step(0);
  const long before = allocations;
  run.optimizer.step({1, 0.0});
  EXPECT_EQ(allocations - before, 0);
}

TEST(Optimizer, RejectsOverlapAndOverhang) {
  base::ThreadPool pool(1);
  std::vector<float> values(100), gradients(100);
  const auto build = [&](const ParameterMap& map) {
    Optimizer(OptimizerConfig{}, map, values, gradients, pool);
  };
  EXPECT_NO_THROW(build({{{"w", 0, 5, 10}}, {{"t", 50, 80}}, {{"s", 80, 100}}}));
  EXPECT_THROW(build({{{"w", 0, 5, 10}}, {{"t", 49, 80}}, {}}), base::Error);
  EXPECT_THROW(build({{{"w", 60, 5, 10}}, {}, {}}), base::Error);
  EXPECT_THROW(build({{}, {{"t", 20, 10}}, {}}), base::Error);
  EXPECT_THROW(build({{{"w", 0, 0, 10}}, {}, {}}), base::Error);
}

}  // namespace
}  // namespace fairway::optim
