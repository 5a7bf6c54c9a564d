#include "support/compare.h"

#include <gtest/gtest.h>

#include <limits>
#include <vector>

namespace fairway::testing {
namespace {

using Values = std::vector<float>;

const float nan = std::numeric_limits<float>::quiet_NaN(), inf = std::numeric_limits<float>::infinity();

TEST(Compare, Distances) {
  const Values a = {1, -2, 3}, b = {1, -4, 2};
  EXPECT_EQ(max_difference(a, b), 2);
  EXPECT_EQ(max_magnitude(b), 4);
  EXPECT_EQ(max_relative(a, b), 0.5);
  EXPECT_DOUBLE_EQ(norm_relative(a, b), std::sqrt(5.0 / 21));
  EXPECT_EQ(max_relative(a, Values(3)), 3) << "beside zeros: the distance itself";
  EXPECT_EQ(norm_relative(Values{0, 3, 4}, Values(3)), 5);
  EXPECT_EQ(max_difference(Values{}, Values{}), 0);
  EXPECT_THROW(max_difference(a, Values(2)), std::runtime_error);
  EXPECT_THROW(norm_relative(a, Values(4)), std::runtime_error);
}

/// No bound holds for what these return.
TEST(Compare, NotANumberIsFarFromEverything) {
  const Values good = {1, -2, 3};
  const auto no_bound_holds = [](const Values& a, const Values& b) {
    for (const double d : {max_difference(a, b), max_relative(a, b), norm_relative(a, b)})
      EXPECT_FALSE(d <= 1e30) << d;
  };
  for (const float value : {nan, inf, -inf})
    for (std::size_t i = 0; i < good.size(); ++i) {
      Values bad = good;
      bad[i] = value;
      no_bound_holds(bad, good);
      no_bound_holds(good, bad);
      no_bound_holds(bad, bad);
      EXPECT_FALSE(max_magnitude(bad) <= 1e30);
    }
  no_bound_holds(Values(3, nan), good);
}

TEST(Compare, TheFirstNotANumberStays) {
  for (const auto& [before, after] : {std::pair{0.0, 5.0}, {5.0, 0.0}, {-1.0, 1.0}}) {
    Largest largest;
    largest.see(before);
    EXPECT_EQ(largest.value(), std::max(0.0, before));
    largest.see(static_cast<double>(nan));
    largest.see(after);
    EXPECT_TRUE(std::isnan(largest.value()));
  }
}

}  // namespace
}  // namespace fairway::testing
