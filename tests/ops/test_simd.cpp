#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <vector>

#include "fairway/base/cpu.h"
#include "fairway/base/random.h"
#include "ops/simd_probe/probe.h"

namespace fairway::ops {
namespace {

constexpr float inf = std::numeric_limits<float>::infinity();
constexpr float nan = std::numeric_limits<float>::quiet_NaN();

cpu::SimdProbe probe_of(base::Isa isa) {
#if defined(__x86_64__)
  if (isa == base::Isa::avx512) return cpu::avx512::simd_probe();
  if (isa == base::Isa::avx2) return cpu::avx2::simd_probe();
#endif
  (void)isa;
  return cpu::scalar::simd_probe();
}

class Simd : public testing::TestWithParam<base::Isa> {
 protected:
  void SetUp() override {
    if (GetParam() > base::best_isa()) GTEST_SKIP() << "this processor lacks " << base::isa_name(GetParam());
    probe = probe_of(GetParam());
  }
  std::vector<float> run(const char* what, const std::vector<float>& x) {
    std::vector<float> y(x.size() + 1, 77.0f);
    probe.floats(what, x.data(), y.data(), static_cast<int>(x.size()));
    EXPECT_EQ(y.back(), 77.0f) << "wrote past the end";
    y.pop_back();
    return y;
  }
  /// Greatest distance from `exact` in units of the last place of the exact value.
  double worst_ulp(const char* what, const std::vector<float>& x, double (*exact)(double)) {
    const auto y = run(what, x);
    double worst = 0;
    for (std::size_t i = 0; i < x.size(); ++i) {
      const double want = exact(x[i]);
      const auto near = std::abs(static_cast<float>(want));
      const double ulp = std::nextafter(near, inf) - static_cast<double>(near);
      const double off = std::abs(y[i] - want) / ulp;
      if (!(off <= worst)) worst = off;
      EXPECT_FALSE(std::isnan(y[i])) << what << "(" << x[i] << ")";
    }
    return worst;
  }
  cpu::SimdProbe probe{};
};

std::vector<float> spread(double low, double high, int n) {
  std::vector<float> x;
  for (int i = 0; i < n; ++i) x.push_back(static_cast<float>(low + (high - low) * i / (n - 1)));
  return x;
}
/// Both signs, all magnitudes from 2^low to 2^high.
std::vector<float> magnitudes(int low, int high, int each) {
  std::vector<float> x;
  for (int e = low; e < high; ++e)
    for (int i = 0; i < each; ++i)
      for (float sign : {1.0f, -1.0f}) x.push_back(sign * std::ldexp(1.0f + static_cast<float>(i) / each, e));
  return x;
}
std::vector<float> positive(std::vector<float> x) {
  for (float& v : x) v = std::abs(v);
  return x;
}

TEST_P(Simd, ExpIsWithinTwoUlp) {
  EXPECT_LE(worst_ulp("exp", spread(-87.33, 88.72, 200001), [](double v) { return std::exp(v); }), 2.0);
  EXPECT_LE(worst_ulp("exp", magnitudes(-40, 6, 257), [](double v) { return std::exp(v); }), 2.0);
}

TEST_P(Simd, LogIsWithinTwoUlp) {
  EXPECT_LE(worst_ulp("log", positive(magnitudes(-149, 128, 257)), [](double v) { return std::log(v); }),
            2.0);
  EXPECT_LE(worst_ulp("log", spread(0.5, 2.0, 100001), [](double v) { return std::log(v); }), 2.0);
}

TEST_P(Simd, TanhAndSigmoidAreWithinAFewUlp) {
  EXPECT_LE(worst_ulp("tanh", spread(-12, 12, 200001), [](double v) { return std::tanh(v); }), 3.0);
  EXPECT_LE(worst_ulp("tanh", magnitudes(-60, 5, 257), [](double v) { return std::tanh(v); }), 3.0);
  EXPECT_LE(worst_ulp("sigmoid", spread(-80, 80, 100001), [](double v) { return 1 / (1 + std::exp(-v)); }),
            4.0);
}

TEST_P(Simd, SpecialValues) {
  EXPECT_EQ(run("exp", {-inf, inf, 0.0f, -0.0f, -1000.0f, 1000.0f}),
            (std::vector<float>{0.0f, inf, 1.0f, 1.0f, 0.0f, inf}));
  EXPECT_EQ(run("tanh", {-inf, inf, 0.0f, 100.0f, -100.0f}),
            (std::vector<float>{-1.0f, 1.0f, 0.0f, 1.0f, -1.0f}));
  EXPECT_EQ(run("sigmoid", {-inf, inf, 0.0f}), (std::vector<float>{0.0f, 1.0f, 0.5f}));
  EXPECT_EQ(run("log", {0.0f, -0.0f, inf, 1.0f}), (std::vector<float>{-inf, -inf, inf, 0.0f}));
  EXPECT_TRUE(std::isnan(run("log", {-1.0f})[0]));
  for (const char* what : {"exp", "log", "tanh", "sigmoid"})
    for (float bad : {nan, -nan}) EXPECT_TRUE(std::isnan(run(what, {1.0f, bad})[1])) << what;
}

TEST_P(Simd, RoundsHalfToEven) {
  EXPECT_EQ(run("round", {0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 30.5f, 31.5f, 0.49999997f, -31.500002f}),
            (std::vector<float>{0, 2, 2, 0, -2, -2, 30, 32, 0, -32}));
}

TEST_P(Simd, DoublesFollowTheLibrary) {
  const std::vector<double> x = {-3.25, -0.1, 0.0, 0.3, 1.0, 2.5, 7.0, 19.0, 0.7};
  std::vector<double> y(x.size());
  const auto compare = [&](const char* what, double (*exact)(double)) {
    probe.doubles(what, x.data(), y.data(), static_cast<int>(x.size()));
    for (std::size_t i = 0; i < x.size(); ++i) {
      if (!std::isfinite(exact(x[i]))) continue;
      EXPECT_NEAR(y[i], exact(x[i]), 1e-15 * std::abs(exact(x[i]))) << what << "(" << x[i] << ")";
    }
  };
  compare("exp", [](double v) { return std::exp(v); });
  compare("log", [](double v) { return std::log(v); });
  compare("tanh", [](double v) { return std::tanh(v); });
  compare("sigmoid", [](double v) { return 1 / (1 + std::exp(-v)); });
  compare("round", [](double v) { return std::nearbyint(v); });
  compare("abs", [](double v) { return std::abs(v); });
}

// Sums and maxima have one order on every instruction set: lane i takes elements i, i + 16, ..., then halves
// are added.
template <class T>
T ordered_sum(const std::vector<T>& x) {
  constexpr int n = 64 / sizeof(T);
  std::vector<T> lane(n, T{});
  for (std::size_t i = 0; i < x.size(); ++i) lane[i % n] += x[i];
  for (int half = n / 2; half > 0; half /= 2)
    for (int i = 0; i < half; ++i)
      lane[static_cast<std::size_t>(i)] += lane[static_cast<std::size_t>(i + half)];
  return lane[0];
}

TEST_P(Simd, FoldsInOneOrderWithTails) {
  const base::Random random(5, "fold");
  for (int n : {1, 3, 7, 8, 9, 15, 16, 17, 31, 33, 64, 1000}) {
    std::vector<float> x;
    std::vector<double> xd;
    for (int i = 0; i < n; ++i) {
      x.push_back(static_cast<float>(random.normal(static_cast<std::uint64_t>(i))) - 4);
      xd.push_back(random.normal(static_cast<std::uint64_t>(i)) - 4);
    }
    float folded[2];
    double folded_double[2];
    probe.fold_floats(x.data(), n, folded);
    probe.fold_doubles(xd.data(), n, folded_double);
    EXPECT_EQ(folded[0], ordered_sum(x)) << n;
    EXPECT_EQ(folded[1], *std::max_element(x.begin(), x.end())) << n;
    EXPECT_EQ(folded_double[0], ordered_sum(xd)) << n;
    EXPECT_EQ(folded_double[1], *std::max_element(xd.begin(), xd.end())) << n;
    const auto magnitude = run("abs", x);
    for (int i = 0; i < n; ++i)
      EXPECT_EQ(magnitude[static_cast<std::size_t>(i)], std::abs(x[static_cast<std::size_t>(i)]));
  }
}

INSTANTIATE_TEST_SUITE_P(Isa, Simd, testing::Values(base::Isa::scalar, base::Isa::avx2, base::Isa::avx512),
                         [](const auto& p) { return std::string(base::isa_name(p.param)); });

}  // namespace
}  // namespace fairway::ops
