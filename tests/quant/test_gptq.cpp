// GPTQ against the original (tests/golden/gptq), and what it is for.
#include "fairway/quant/gptq.h"

#include <gmock/gmock.h>

#include <cmath>

#include "fairway/base/random.h"
#include "support/errors.h"
#include "support/safetensors.h"

namespace fairway::quant {
namespace {

using ::testing::HasSubstr;
using testing::input_error;

TEST(Gptq, GivesTheOriginalsIntegersButForTies) {
  const auto golden = testing::read_safetensors(FAIRWAY_GOLDEN_DIR "/gptq.safetensors");
  base::ThreadPool pool(2);
  for (const std::string i : {"0", "1", "2"}) {
    const auto param = golden.floats(i + "/param");
    const auto& w = golden.at(i + "/W");
    const auto values = w.as<float>(), hessian = golden.floats(i + "/H");
    const auto result = quantize_gptq("w" + i, values, {w.shape[0], w.shape[1]}, hessian,
                                      {.q_max = static_cast<int>(param[1]), .clip = param[0]}, pool);
    const auto q = golden.at(i + "/Q").as<std::int8_t>();
    const auto scales = golden.at(i + "/s").as<std::uint16_t>();
    ASSERT_EQ(result.q.size(), q.size());
    for (std::size_t r = 0; r < scales.size(); ++r)
      EXPECT_EQ(result.scales[r].bits, scales[r]) << i << " " << r;
    std::size_t different = 0;
    for (std::size_t k = 0; k < q.size(); ++k) {
      different += result.q[k] != q[k];
      EXPECT_LE(std::abs(result.q[k] - q[k]), 1);
    }
    EXPECT_LE(different, q.size() / 1000) << i;
  }
}

/// Correlated inputs, and how far products with them are from those of the weights.
struct Problem {
  static constexpr std::int64_t rows = 24, n = 40, samples = 200;
  std::vector<float> w, x, h;
  Problem() : w(rows * n), x(samples * n), h(n * n) {
    const base::Random random(3, "gptq");
    std::uint64_t k = 0;
    for (auto& v : w) v = static_cast<float>(random.normal(k++));
    for (std::int64_t s = 0; s < samples; ++s)
      for (std::int64_t j = 0; j < n; ++j)
        x[at(s, j)] = static_cast<float>(random.normal(k++)) + (j > 0 ? 0.9f * x[at(s, j - 1)] : 0.0f);
    for (std::int64_t s = 0; s < samples; ++s)
      for (std::int64_t i = 0; i < n; ++i)
        for (std::int64_t j = 0; j < n; ++j) h[at(i, j)] += x[at(s, i)] * x[at(s, j)];
  }
  static std::size_t at(std::int64_t i, std::int64_t j) { return static_cast<std::size_t>(i * n + j); }
  double error(const QuantizedTensor& t, base::ThreadPool& pool) const {
    std::vector<float> back(w.size());
    dequantize(t, back, pool);
    double sum = 0;
    for (std::int64_t r = 0; r < rows; ++r)
      for (std::int64_t s = 0; s < samples; ++s) {
        double y = 0;
        for (std::int64_t j = 0; j < n; ++j) y += double{back[at(r, j)] - w[at(r, j)]} * x[at(s, j)];
        sum += y * y;
      }
    return sum;
  }
};

TEST(Gptq, LosesLessOfTheProductsThanRounding) {
  Problem p;
  base::ThreadPool one(1), three(3);
  const tensor::Shape shape{Problem::rows, Problem::n};
  const GptqOptions options{.q_max = 15, .clip = 4};
  const auto result = quantize_gptq("w", p.w, shape, p.h, options, one);
  std::vector<float> identity(p.h.size());
  for (std::int64_t i = 0; i < Problem::n; ++i) identity[Problem::at(i, i)] = 1;
  const auto rounded = quantize_gptq("w", p.w, shape, identity, options, one);
  EXPECT_LT(p.error(result, one), 0.5 * p.error(rounded, one));
  for (std::size_t k = 0; k < p.w.size(); ++k)  // without correlations it is rounding
    ASSERT_EQ(
        rounded.q[k],
        std::clamp(std::nearbyint(p.w[k] / tensor::to_float(rounded.scales[k / Problem::n])), -15.0f, 15.0f));
  EXPECT_EQ(quantize_gptq("w", p.w, shape, p.h, options, three).q, result.q);
}

TEST(Gptq, BadInputIsNamed) {
  Problem p;
  base::ThreadPool pool(1);
  const tensor::Shape shape{Problem::rows, Problem::n};
  const auto refused = [&](const std::vector<float>& h) {
    return input_error([&] { quantize_gptq("blocks.1.w", p.w, shape, h, {}, pool); });
  };
  EXPECT_THAT(refused(std::vector<float>(7)), HasSubstr("blocks.1.w: a Hessian of 7 values for rows of 40"));
  auto h = p.h;
  h[Problem::at(3, 3)] *= -1;
  EXPECT_THAT(refused(h),
              HasSubstr("blocks.1.w: the Hessian of what it multiplies is not positive definite"));
  // A column that no input reaches, and a row of zeros.
  for (std::int64_t i = 0; i < Problem::n; ++i) p.h[Problem::at(i, 5)] = p.h[Problem::at(5, i)] = 0;
  std::fill_n(p.w.begin() + 2 * Problem::n, Problem::n, 0.0f);
  const auto result = quantize_gptq("w", p.w, shape, p.h, {}, pool);
  for (std::int64_t r = 0; r < Problem::rows; ++r) EXPECT_EQ(result.q[Problem::at(r, 5)], 0);
  for (std::int64_t j = 0; j < Problem::n; ++j) EXPECT_EQ(result.q[Problem::at(2, j)], 0);
  p.w[3] = NAN;
  EXPECT_THAT(refused(p.h), HasSubstr("row 0 holds nan"));
}

}  // namespace
}  // namespace fairway::quant
