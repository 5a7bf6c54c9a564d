#pragma once
// What a few runs of a recipe allow to say.

#include <optional>
#include <span>

namespace fairway::pipeline {

double mean(std::span<const double> values);  ///< of at least one value
/// Sample standard deviation (n - 1); nothing for fewer than two values.
std::optional<double> standard_deviation(std::span<const double> values);

/// Regularised incomplete beta function I_x(a, b), a, b > 0, 0 <= x <= 1, to about 1e-14 (continued fraction
/// of Abramowitz and Stegun 26.5.8 by Lentz's method).
double incomplete_beta(double a, double b, double x);

/// P(T <= t) of Student's distribution with `freedom` > 0 degrees of freedom.
double student_t_cdf(double t, double freedom);

/// Welch's test of two samples with variances of their own.
struct WelchTest {
  double t = 0;        ///< infinite where neither sample varies and the means differ
  double freedom = 0;  ///< Welch-Satterthwaite; infinite in that case
  double p = 1;        ///< two-sided: P(|T| >= |t|)
  double p_less = 1;   ///< one-sided: P(T <= t), small where mean(a) lies below mean(b) + shift
};
/// Is mean(a) - mean(b) different from `shift`? Nothing unless both have at least two values.
std::optional<WelchTest> welch(std::span<const double> a, std::span<const double> b, double shift = 0);

}  // namespace fairway::pipeline
