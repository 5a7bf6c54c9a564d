#include "fairway/pipeline/sweep/statistics.h"

#include "fairway/base/error.h"

#include <cmath>
#include <limits>
#include <numeric>

namespace fairway::pipeline {
namespace {

/// The continued fraction of I_x(a, b), which converges fast for x < (a + 1) / (a + b + 2).
double beta_fraction(double a, double b, double x) {
  constexpr double tiny = 1e-300;
  const auto away_from_zero = [](double v) { return std::fabs(v) < tiny ? tiny : v; };
  double c = 1, d = 1 / away_from_zero(1 - (a + b) * x / (a + 1)), f = d;
  for (int m = 1; m <= 10'000; ++m) {
    const double even = m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m));
    d = 1 / away_from_zero(1 + even * d);
    c = away_from_zero(1 + even / c);
    f *= d * c;
    const double odd = -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1));
    d = 1 / away_from_zero(1 + odd * d);
    c = away_from_zero(1 + odd / c);
    f *= d * c;
    if (std::fabs(d * c - 1) < 1e-15) break;
  }
  return f;
}

double variance(std::span<const double> values) {
  const double m = mean(values);
  double sum = 0;
  for (const double v : values) sum += (v - m) * (v - m);
  return sum / static_cast<double>(values.size() - 1);
}

}  // namespace

double mean(std::span<const double> values) {
  base::check(!values.empty(), "mean of nothing");
  return std::accumulate(values.begin(), values.end(), 0.0) / static_cast<double>(values.size());
}

std::optional<double> standard_deviation(std::span<const double> values) {
  if (values.size() < 2) return std::nullopt;
  return std::sqrt(variance(values));
}

double incomplete_beta(double a, double b, double x) {
  base::check(a > 0 && b > 0 && x >= 0 && x <= 1, "incomplete beta of {}, {}, {}", a, b, x);
  if (x == 0 || x == 1) return x;
  const double front =
      std::exp(std::lgamma(a + b) - std::lgamma(a) - std::lgamma(b) + a * std::log(x) + b * std::log1p(-x));
  if (x < (a + 1) / (a + b + 2)) return front * beta_fraction(a, b, x) / a;
  return 1 - front * beta_fraction(b, a, 1 - x) / b;
}

double student_t_cdf(double t, double freedom) {
  base::check(freedom > 0, "{} degrees of freedom", freedom);
  if (std::isinf(t)) return t > 0 ? 1 : 0;
  const double tail = 0.5 * incomplete_beta(freedom / 2, 0.5, freedom / (freedom + t * t));
  return t > 0 ? 1 - tail : tail;
}

std::optional<WelchTest> welch(std::span<const double> a, std::span<const double> b, double shift) {
  if (a.size() < 2 || b.size() < 2) return std::nullopt;
  const auto n = static_cast<double>(a.size()), m = static_cast<double>(b.size());
  const double va = variance(a) / n, vb = variance(b) / m;
  const double difference = mean(a) - mean(b) - shift;
  WelchTest test;
  if (va + vb == 0) {  // runs that repeat to the bit: any difference is a real one
    const double infinity = std::numeric_limits<double>::infinity();
    test.freedom = infinity;
    test.t = difference == 0 ? 0 : std::copysign(infinity, difference);
    test.p = difference == 0 ? 1 : 0;
    test.p_less = difference < 0 ? 0 : difference == 0 ? 0.5 : 1;
    return test;
  }
  test.t = difference / std::sqrt(va + vb);
  test.freedom = (va + vb) * (va + vb) / (va * va / (n - 1) + vb * vb / (m - 1));
  test.p_less = student_t_cdf(test.t, test.freedom);
  test.p = 2 * student_t_cdf(-std::fabs(test.t), test.freedom);
  return test;
}

}  // namespace fairway::pipeline
