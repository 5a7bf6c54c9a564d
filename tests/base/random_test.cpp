#include "fairway/base/random.h"

#include "fairway/base/error.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <map>
#include <set>

namespace fairway::base {
namespace {

using Block = std::array<std::uint32_t, 4>;

// The known answers published with Random123 (file kat_vectors, lines "philox4x32 10").
TEST(Philox, KnownAnswers) {
  EXPECT_EQ(philox4x32({0, 0, 0, 0}, {0, 0}), (Block{0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8}));
  constexpr std::uint32_t ones = 0xffffffff;
  EXPECT_EQ(philox4x32({ones, ones, ones, ones}, {ones, ones}),
            (Block{0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd}));
  EXPECT_EQ(philox4x32({0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344}, {0xa4093822, 0x299f31d0}),
            (Block{0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1}));
}

// Files that were made with a seed must be reproducible by every later version: these numbers are frozen.
TEST(Random, FrozenValues) {
  const Random random(1337, "init/blocks.0.attn.c_q");
  EXPECT_EQ(random.bits(0), 3196814547u);
  EXPECT_EQ(random.bits(std::uint64_t{1} << 40), 2485862838u);
  EXPECT_EQ(random.below(7, 1000), 753u);
  EXPECT_DOUBLE_EQ(random.uniform(3), 0.96932828365581714);
  EXPECT_DOUBLE_EQ(random.normal(3), -0.99574870177471453);
}

TEST(Random, DependsOnSeedPurposeIndexAndKind) {
  const Random a(1, "x");
  std::set<std::uint32_t> values = {a.bits(0),
                                    a.bits(1),
                                    a.bits(std::uint64_t{1} << 32),
                                    Random(2, "x").bits(0),
                                    Random(std::uint64_t{1} << 32, "x").bits(0),
                                    Random(1, "y").bits(0),
                                    static_cast<std::uint32_t>(a.uniform(0) * 0x1p32)};
  EXPECT_EQ(values.size(), 7u);
  EXPECT_EQ(a.bits(5), Random(1, "x").bits(5));
}

TEST(Random, UniformHasItsMomentsAndRange) {
  const Random random(42, "uniform");
  constexpr int count = 200000;
  double sum = 0, squares = 0;
  for (int i = 0; i < count; ++i) {
    const double u = random.uniform(static_cast<std::uint64_t>(i));
    ASSERT_GE(u, 0.0);
    ASSERT_LT(u, 1.0);
    sum += u;
    squares += u * u;
  }
  // Five standard errors.
  EXPECT_NEAR(sum / count, 0.5, 5 * std::sqrt(1.0 / 12 / count));
  EXPECT_NEAR(squares / count, 1.0 / 3, 5 * std::sqrt(4.0 / 45 / count));
}

TEST(Random, NormalHasItsMoments) {
  const Random random(42, "normal");
  constexpr int count = 200000;
  double sum = 0, squares = 0, fourth = 0, neighbours = 0, previous = 0;
  for (int i = 0; i < count; ++i) {
    const double z = random.normal(static_cast<std::uint64_t>(i));
    ASSERT_TRUE(std::isfinite(z));
    sum += z;
    squares += z * z;
    fourth += z * z * z * z;
    neighbours += z * previous;
    previous = z;
  }
  EXPECT_NEAR(sum / count, 0.0, 5 / std::sqrt(count));
  EXPECT_NEAR(squares / count, 1.0, 5 * std::sqrt(2.0 / count));
  EXPECT_NEAR(fourth / count, 3.0, 5 * std::sqrt(96.0 / count));
  EXPECT_NEAR(neighbours / count, 0.0, 5 / std::sqrt(count));
}

TEST(Random, BelowIsUniformForAnyBound) {
  const Random random(7, "below");
  EXPECT_EQ(random.below(0, 1), 0u);
  EXPECT_THROW(random.below(0, 0), Error);
  constexpr int count = 90000, bound = 9;
  std::map<std::uint64_t, int> seen;
  for (int i = 0; i < count; ++i) ++seen[random.below(static_cast<std::uint64_t>(i), bound)];
  ASSERT_EQ(seen.size(), static_cast<std::size_t>(bound));
  for (const auto& [value, times] : seen) {
    EXPECT_LT(value, static_cast<std::uint64_t>(bound));
    EXPECT_NEAR(times, count / bound, 5 * std::sqrt(count / bound));
  }
  // A bound above 2^63 leaves no value out at the top and none beyond it.
  constexpr std::uint64_t large = (std::uint64_t{3} << 62) + 5;
  int high = 0;
  for (std::uint64_t i = 0; i < 3000; ++i) {
    const auto value = random.below(i, large);
    ASSERT_LT(value, large);
    high += value >= (std::uint64_t{1} << 63);
  }
  EXPECT_NEAR(high, 1000, 130);
}

}  // namespace
}  // namespace fairway::base
