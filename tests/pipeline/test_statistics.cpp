#include "fairway/pipeline/sweep/statistics.h"

#include <gtest/gtest.h>

#include <cmath>
#include <vector>

namespace fairway::pipeline {
namespace {

TEST(Statistics, MeanAndDeviation) {
  const std::vector<double> values{2, 4, 4, 4, 5, 5, 7, 9};
  EXPECT_EQ(mean(values), 5);
  EXPECT_NEAR(*standard_deviation(values), std::sqrt(32.0 / 7), 1e-15);
  EXPECT_FALSE(standard_deviation(std::vector<double>{3}));
}

TEST(Statistics, IncompleteBeta) {
  EXPECT_EQ(incomplete_beta(2, 3, 0), 0);
  EXPECT_EQ(incomplete_beta(2, 3, 1), 1);
  // I_x(1, b) = 1 - (1 - x)^b, I_x(a, 1) = x^a, I_x(2, 3) = 6x^2 - 8x^3 + 3x^4; I_x(1/2, 1/2) = 2/pi asin
  // sqrt x.
  for (const double x : {1e-6, 0.01, 0.3, 0.5, 0.7, 0.99, 1 - 1e-9}) {
    EXPECT_NEAR(incomplete_beta(1, 4.5, x), 1 - std::pow(1 - x, 4.5), 1e-14);
    EXPECT_NEAR(incomplete_beta(3.25, 1, x), std::pow(x, 3.25), 1e-14);
    EXPECT_NEAR(incomplete_beta(2, 3, x), x * x * (6 - 8 * x + 3 * x * x), 1e-14);
    EXPECT_NEAR(incomplete_beta(0.5, 0.5, x), 2 / M_PI * std::asin(std::sqrt(x)), 1e-10);
    EXPECT_NEAR(incomplete_beta(50, 0.5, x) + incomplete_beta(0.5, 50, 1 - x), 1, 1e-13);
  }
}

TEST(Statistics, StudentsDistribution) {
  for (const double t : {-40.0, -3.0, -0.5, 0.0, 0.1, 1.0, 7.0}) {
    // One degree of freedom is Cauchy's distribution, two have a closed form.
    EXPECT_NEAR(student_t_cdf(t, 1), 0.5 + std::atan(t) / M_PI, 1e-13) << t;
    EXPECT_NEAR(student_t_cdf(t, 2), 0.5 + t / (2 * std::sqrt(2 + t * t)), 1e-13) << t;
    EXPECT_NEAR(student_t_cdf(t, 1e7), 0.5 * std::erfc(-t / std::sqrt(2.0)), 1e-6) << t;
  }
  // Printed tables of quantiles.
  EXPECT_NEAR(student_t_cdf(2.776445, 4), 0.975, 1e-7);
  EXPECT_NEAR(student_t_cdf(3.746947, 4), 0.99, 1e-7);
  EXPECT_NEAR(student_t_cdf(2.228139, 10), 0.975, 1e-7);
  EXPECT_NEAR(student_t_cdf(1.697261, 30), 0.95, 1e-7);
  EXPECT_EQ(student_t_cdf(INFINITY, 3), 1);
  EXPECT_EQ(student_t_cdf(-INFINITY, 3), 0);
}

TEST(Statistics, WelchAgainstAnotherComputation) {
  // Example of the Wikipedia article on Welch's t-test (A1, A2): t = -2.46, 25.0 degrees of freedom, p =
  // 0.021.
  const std::vector<double> a{27.5, 21.0, 19.0, 23.6, 17.0, 17.9, 16.9, 20.1,
                              21.9, 22.6, 23.1, 19.6, 19.0, 21.7, 21.4};
  const std::vector<double> b{27.1, 22.0, 20.8, 23.4, 23.4, 23.5, 25.8, 22.0,
                              24.8, 20.2, 21.9, 22.1, 22.9, 30.5, 24.3};
  const auto test = welch(a, b);
  ASSERT_TRUE(test);
  EXPECT_NEAR(test->t, -2.847204456577, 1e-11);
  EXPECT_NEAR(test->freedom, 27.8847494671, 1e-9);
  EXPECT_NEAR(test->p, 0.008185629705, 1e-10);
  EXPECT_NEAR(test->p_less, test->p / 2, 1e-12);
  const auto other = welch(b, a);
  EXPECT_NEAR(other->p, test->p, 1e-12);
  EXPECT_NEAR(other->p_less, 1 - test->p / 2, 1e-12);
  EXPECT_NEAR(welch(a, b, mean(a) - mean(b))->p_less, 0.5, 1e-12);
}

TEST(Statistics, SamplesThatDoNotVary) {
  const std::vector<double> one{1.5}, same{1.5, 1.5}, less{1.4, 1.4};
  EXPECT_FALSE(welch(one, same));
  EXPECT_FALSE(welch(same, one));
  EXPECT_EQ(welch(same, same)->p, 1);
  EXPECT_EQ(welch(less, same)->p, 0);
  EXPECT_EQ(welch(less, same)->p_less, 0);
  EXPECT_EQ(welch(same, less)->p_less, 1);
}

}  // namespace
}  // namespace fairway::pipeline
