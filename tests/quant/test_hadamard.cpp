// The rotation against the matrix itself, and what is quantised in its basis.
#include "fairway/quant/hadamard.h"

#include <gmock/gmock.h>

#include <bit>
#include <cmath>

#include "fairway/base/random.h"
#include "fairway/quant/policy.h"
#include "support/errors.h"

namespace fairway::quant {
namespace {

using ::testing::HasSubstr;

double entry(std::size_t i, std::size_t j, std::size_t n) {
  return (std::popcount(i & j) % 2 ? -1 : 1) / std::sqrt(static_cast<double>(n));
}

std::vector<float> normals(std::size_t n, const char* name) {
  const base::Random random(4, name);
  std::vector<float> v(n);
  for (std::size_t i = 0; i < n; ++i) v[i] = static_cast<float>(random.normal(i));
  return v;
}

TEST(Hadamard, IsSylvestersMatrixAndItsOwnInverse) {
  base::ThreadPool pool(2);
  for (const std::size_t n : {1u, 2u, 8u, 32u}) {
    const auto before = normals(3 * n, "rows");
    auto rows = before;
    rotate_rows(rows, static_cast<std::int64_t>(n), pool);
    for (std::size_t r = 0; r < 3; ++r)
      for (std::size_t j = 0; j < n; ++j) {
        double sum = 0;
        for (std::size_t i = 0; i < n; ++i) sum += before[r * n + i] * entry(i, j, n);
        EXPECT_NEAR(rows[r * n + j], sum, 1e-5) << n;
      }
    rotate_rows(rows, static_cast<std::int64_t>(n), pool);
    for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(rows[i], before[i], 1e-5);
  }
}

TEST(Hadamard, TurnsHessiansWithTheRowsTheyBelongTo) {
  constexpr std::size_t n = 16;
  base::ThreadPool pool(2);
  auto x = normals(n, "x");
  std::vector<float> h(n * n);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) h[i * n + j] = x[i] * x[j] + (i == j);
  rotate_both(h, n, pool);
  rotate_row(x);
  for (std::size_t i = 0; i < n; ++i)
    for (std::size_t j = 0; j < n; ++j) EXPECT_NEAR(h[i * n + j], x[i] * x[j] + (i == j), 1e-5);
}

/// One matrix with an outlier in each row, and Hessians that see all columns alike.
struct Outliers {
  static constexpr std::int64_t rows = 6, n = 64;
  std::vector<float> w = normals(rows * n, "w");
  Hessians hessians;
  QuantPolicy policy = policy_with("int5_gptq");
  Outliers() {
    for (std::size_t r = 0; r < rows; ++r) w[r * n + 7 * r] = 30;
    auto& h = hessians["w"] = std::vector<float>(n * n);
    for (std::size_t i = 0; i < n; ++i) h[i * n + i] = 1;
    policy.passthrough_limit = 0;
    policy.attention_clip = 4;
  }
  QuantizedTensor quantized(std::int64_t columns = n, int threads = 2) const {
    base::ThreadPool pool(threads);
    return quantize(policy, {"w", {rows * n / columns, columns}, Category::attention}, w, false, pool,
                    hessians);
  }
  double error(const QuantizedTensor& t) const {
    base::ThreadPool pool(1);
    std::vector<float> back(w.size());
    dequantize(t, back, pool);
    double sum = 0;
    for (std::size_t i = 0; i < w.size(); ++i) sum += std::pow(double{back[i]} - w[i], 2);
    return sum;
  }
};

TEST(Hadamard, OutliersNoLongerClip) {
  Outliers p;
  const double plain = p.error(p.quantized());
  p.policy.rotation = Rotation::hadamard;
  const auto rotated = p.quantized();
  EXPECT_TRUE(rotated.rotated);
  EXPECT_LT(p.error(rotated), 0.1 * plain);
  EXPECT_EQ(p.quantized(Outliers::n, 3).q, rotated.q);
  p.policy.lqer = {1, 2, 64};  // in the same basis
  EXPECT_LT(p.error(p.quantized()), p.error(rotated));
}

TEST(Hadamard, TablesKeepTheirBasis) {
  Outliers p;
  p.policy.rotation = Rotation::hadamard;
  p.policy.table = p.policy.attention;
  base::ThreadPool pool(1);
  const tensor::Shape shape{Outliers::rows, Outliers::n};
  EXPECT_FALSE(quantize(p.policy, {"w", shape, Category::table}, p.w, false, pool, p.hessians).rotated);
  EXPECT_TRUE(quantize(p.policy, {"w", shape, Category::mlp}, p.w, false, pool, p.hessians).rotated);
}

TEST(Hadamard, OtherWidthsAreRefused) {
  Outliers p;
  p.policy.rotation = Rotation::hadamard;
  p.hessians["w"] = std::vector<float>(96 * 96);
  EXPECT_THAT(
      testing::input_error([&] { p.quantized(96); }),
      HasSubstr("w: quant.rotate = \"hadamard\" needs rows of a power of two, and these are 96 wide"));
}

}  // namespace
}  // namespace fairway::quant
