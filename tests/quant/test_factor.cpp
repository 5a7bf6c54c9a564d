// One factorisation for equal Hessians, the same bytes for any number of threads; eigenvectors.
#include "factor.h"

#include <gtest/gtest.h>

#include <cmath>

#include "eigen.h"
#include "fairway/base/random.h"

namespace fairway::quant {
namespace {

std::vector<float> hessian(std::int64_t n, double noise) {
  const base::Random random(8, "hessian");
  std::vector<float> x(static_cast<std::size_t>(2 * n * n)), h(static_cast<std::size_t>(n * n));
  for (std::size_t i = 0; i < x.size(); ++i) x[i] = static_cast<float>(random.normal(i) + noise);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < n; ++j)
      for (std::int64_t s = 0; s < 2 * n; ++s)
        h[static_cast<std::size_t>(i * n + j)] +=
            x[static_cast<std::size_t>(s * n + i)] * x[static_cast<std::size_t>(s * n + j)];
  return h;
}

TEST(Factors, MakeUpForErrorsAsTheHessianAsks) {
  base::ThreadPool one(1), three(3);
  for (const std::int64_t n : {1, 5, 63, 64, 65, 150}) {
    const auto h = hessian(n, 0.5);
    Factors factors, others;
    const auto& f = factors.of("w", h, n, {}, three);
    EXPECT_EQ(others.of("w", h, n, {}, one).feedback, f.feedback);
    // H = R R^T with R = M D, M unit upper: column t of M holds what errors before it leave to t, so that
    // M^-T (H + damping) M^-1 has nothing beside its diagonal: (H M^-1)_ij = 0 below it, checked as H = M D^2
    // M^T.
    double mean = 0;
    for (std::int64_t i = 0; i < n; ++i)
      mean += h[static_cast<std::size_t>(i * n + i)] / static_cast<double>(n);
    const auto entry = [&](std::int64_t a, std::int64_t b) {
      const auto i = f.order[static_cast<std::size_t>(a)], j = f.order[static_cast<std::size_t>(b)];
      return h[static_cast<std::size_t>(i * n + j)] + (i == j ? 0.01 * mean : 0);
    };
    const auto m = [&](std::int64_t j, std::int64_t t) -> double {
      return j == t ? 1 : j < t ? f.feedback[static_cast<std::size_t>(t * n + j)] : 0;
    };
    std::vector<double> d(static_cast<std::size_t>(n));
    for (std::int64_t t = n - 1; t >= 0; --t) {
      d[static_cast<std::size_t>(t)] = entry(t, t);
      for (std::int64_t u = t + 1; u < n; ++u)
        d[static_cast<std::size_t>(t)] -= m(t, u) * m(t, u) * d[static_cast<std::size_t>(u)];
      EXPECT_GT(d[static_cast<std::size_t>(t)], 0);
    }
    for (std::int64_t i = 0; i < n; ++i)
      for (std::int64_t j = i; j < n; ++j) {
        double sum = 0;
        for (std::int64_t t = j; t < n; ++t) sum += m(i, t) * m(j, t) * d[static_cast<std::size_t>(t)];
        ASSERT_NEAR(sum, entry(i, j), 1e-4 * mean) << n << " " << i << " " << j;
      }
  }
}

TEST(Factors, AreSharedByEqualHessiansAndNoOthers) {
  base::ThreadPool pool(2);
  auto h = hessian(20, 0);
  Factors factors;
  factors.of("q", h, 20, {}, pool);
  const auto copy = h;
  factors.of("k", copy, 20, {}, pool);
  EXPECT_EQ(factors.made(), 1);
  factors.of("k", copy, 20, {.damping = 0.02}, pool);
  EXPECT_EQ(factors.made(), 2);
  h[0] *= 2;
  const auto order = factors.of("o", h, 20, {.damping = 0.02}, pool).order;
  EXPECT_EQ(factors.made(), 3);
  EXPECT_EQ(order[0], 0);
}

TEST(Eigen, VectorsAreOrthonormalAndDescend) {
  for (const std::int64_t n : {1, 2, 3, 40}) {
    const auto h = hessian(n, 0.3);
    const auto e = eigen_symmetric({h.begin(), h.end()}, n);
    for (std::int64_t k = 0; k < n; ++k) {
      const double* v = e.vectors.data() + k * n;
      if (k > 0) {
        EXPECT_LE(e.values[static_cast<std::size_t>(k)], e.values[static_cast<std::size_t>(k - 1)]);
      }
      for (std::int64_t l = 0; l <= k; ++l) {
        double product = 0;
        for (std::int64_t i = 0; i < n; ++i) product += v[i] * e.vectors[static_cast<std::size_t>(l * n + i)];
        EXPECT_NEAR(product, k == l, 1e-10);
      }
      for (std::int64_t i = 0; i < n; ++i) {
        double sum = 0;
        for (std::int64_t j = 0; j < n; ++j) sum += h[static_cast<std::size_t>(i * n + j)] * v[j];
        EXPECT_NEAR(sum, e.values[static_cast<std::size_t>(k)] * v[i], 1e-8 * e.values[0]);
      }
    }
  }
  const auto zero = eigen_symmetric(std::vector<double>(9), 3);
  EXPECT_EQ(zero.values, std::vector<double>(3));
}

}  // namespace
}  // namespace fairway::quant
