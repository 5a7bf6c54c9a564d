// Properties of the grids, edges and bad input.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <functional>
#include <limits>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "fairway/quant/quantize.h"

namespace fairway::quant {
namespace {

using Quantizer = std::function<QuantizedTensor(std::span<const float>, tensor::Shape, base::ThreadPool&)>;

QuantizedTensor rowmax6(std::span<const float> v, tensor::Shape s, base::ThreadPool& p) {
  return quantize_rowmax("w", v, s, 31, p);
}
QuantizedTensor rowmax5(std::span<const float> v, tensor::Shape s, base::ThreadPool& p) {
  return quantize_rowmax("w", v, s, 15, p);
}
QuantizedTensor search6(std::span<const float> v, tensor::Shape s, base::ThreadPool& p) {
  return quantize_search("w", v, s, 31, ClipSearch::per_matrix, p);
}
QuantizedTensor search5(std::span<const float> v, tensor::Shape s, base::ThreadPool& p) {
  return quantize_search("w", v, s, 15, ClipSearch::per_matrix, p);
}
QuantizedTensor rowmax7(std::span<const float> v, tensor::Shape s, base::ThreadPool& p) {
  return quantize_rowmax("w", v, s, 63, p);
}
QuantizedTensor row_search6(std::span<const float> v, tensor::Shape s, base::ThreadPool& p) {
  return quantize_search("w", v, s, 31, ClipSearch::per_row, p);
}
QuantizedTensor int8(std::span<const float> v, tensor::Shape s, base::ThreadPool& p) {
  return quantize_int8("w", v, s, p);
}

struct Case {
  const char* name;
  Quantizer quantizer;
  int low, high;
  float floor;  ///< smallest scale, before rounding to fp16
  bool clips;   ///< large values may be cut off
};

std::vector<Case> cases() {
  return {
      {"rowmax6", rowmax6, -32, 31, 1.0f / 31, false}, {"rowmax5", rowmax5, -16, 15, 1.0f / 15, false},
      {"rowmax7", rowmax7, -64, 63, 1.0f / 63, false}, {"row_search6", row_search6, -31, 31, 1.0f / 31, true},
      {"search6", search6, -31, 31, 1.0f / 31, true},  {"search5", search5, -15, 15, 1.0f / 15, true},
      {"int8", int8, -127, 127, 1.0f / 127, false}};
}

std::vector<float> weights(std::string_view purpose, std::int64_t rows, std::int64_t columns) {
  const base::Random random(7, purpose);
  std::vector<float> values(static_cast<std::size_t>(rows * columns));
  for (std::size_t i = 0; i < values.size(); ++i) {
    // Rows from far below the floor to far above it.
    const double size =
        std::pow(10.0, static_cast<double>((i / static_cast<std::size_t>(columns)) % 7) - 3.0);
    values[i] = static_cast<float>(size * random.normal(i));
  }
  return values;
}

std::vector<float> restored(const QuantizedTensor& q, base::ThreadPool& pool, bool bf16 = false) {
  std::vector<float> out(static_cast<std::size_t>(q.shape.elements()));
  dequantize(q, out, pool, bf16);
  return out;
}

class Grids : public ::testing::TestWithParam<Case> {
 protected:
  base::ThreadPool pool{2};
};

TEST_P(Grids, StaysInRangeAndWithinHalfAStep) {
  for (const auto& [rows, columns] :
       {std::pair{300, 257}, std::pair{1, 1000}, std::pair{700, 1}, std::pair{3, 2}}) {
    const auto values = weights("range", rows, columns);
    const auto q = GetParam().quantizer(values, {rows, columns}, pool);
    ASSERT_EQ(q.q.size(), values.size());
    ASSERT_EQ(q.scales.size(), static_cast<std::size_t>(rows));
    const auto back = restored(q, pool);
    for (std::size_t i = 0; i < values.size(); ++i) {
      const float scale = tensor::to_float(q.scales[i / static_cast<std::size_t>(columns)]);
      ASSERT_GE(scale, GetParam().floor * (1 - 1.0f / 2048));
      ASSERT_GE(q.q[i], GetParam().low);
      ASSERT_LE(q.q[i], GetParam().high);
      // int8 quantises with the fp32 scale and restores with its fp16 rounding.
      const float slack = GetParam().high == 127 ? 127.0f / 2048 : 1e-3f;
      if (!GetParam().clips || std::abs(values[i]) < scale * static_cast<float>(GetParam().high)) {
        ASSERT_LE(std::abs(values[i] - back[i]), scale * (0.5f + slack))
            << rows << "x" << columns << " at " << i;
      }
    }
  }
}

TEST_P(Grids, QuantisingAgainChangesNothing) {
  const auto first = GetParam().quantizer(weights("again", 140, 128), {140, 128}, pool);
  const auto second = GetParam().quantizer(restored(first, pool), {140, 128}, pool);
  EXPECT_EQ(first.q, second.q);
}

TEST_P(Grids, ZerosStayZeros) {
  const auto q = GetParam().quantizer(std::vector<float>(50 * 60), {50, 60}, pool);
  for (const auto value : q.q) ASSERT_EQ(value, 0);
  for (const auto scale : q.scales) ASSERT_EQ(scale.bits, tensor::to_f16(GetParam().floor).bits);
  for (const float value : restored(q, pool)) ASSERT_EQ(value, 0.0f);
}

TEST_P(Grids, ConstantRowsUseTheWholeRange) {
  for (const float value : {3.0f, -3.0f}) {
    const auto q = GetParam().quantizer(std::vector<float>(4 * 100, value), {4, 100}, pool);
    for (const auto integer : q.q) ASSERT_EQ(integer, value > 0 ? GetParam().high : -GetParam().high);
    for (const float back : restored(q, pool)) ASSERT_NEAR(back, value, 3.0f / 1000);
  }
}

TEST_P(Grids, ThreadsDoNotChangeABit) {
  const auto values = weights("threads", 999, 130);
  base::ThreadPool one(1), five(5);
  const auto a = GetParam().quantizer(values, {999, 130}, one),
             b = GetParam().quantizer(values, {999, 130}, five);
  EXPECT_EQ(a.q, b.q);
  ASSERT_EQ(a.scales.size(), b.scales.size());
  for (std::size_t i = 0; i < a.scales.size(); ++i) ASSERT_EQ(a.scales[i].bits, b.scales[i].bits);
  EXPECT_EQ(restored(a, one), restored(b, five));
}

TEST_P(Grids, LargeValuesWorkAsLongAsFp16HoldsTheScale) {
  std::vector<float> values(2 * 64, 0.5f);
  values[70] = 60000.0f * static_cast<float>(GetParam().high);
  const auto q = GetParam().quantizer(values, {2, 64}, pool);
  EXPECT_EQ(q.q[70], GetParam().high);
  for (const float back : restored(q, pool)) ASSERT_TRUE(std::isfinite(back));
}

TEST_P(Grids, BadValuesAreInputErrorsThatNameTheTensor) {
  const auto bad_values = {std::numeric_limits<float>::quiet_NaN(), std::numeric_limits<float>::infinity(),
                           -std::numeric_limits<float>::infinity(), 1e38f};
  for (const float bad : bad_values)
    for (const std::size_t where : {std::size_t{0}, std::size_t{100}, std::size_t{6 * 37 - 1}}) {
      // Rows of equal values, so that no clip cuts the outlier away.
      std::vector<float> values(6 * 37, 1.0f);
      std::fill_n(values.begin() + static_cast<std::ptrdiff_t>(where / 37 * 37), 37,
                  bad == 1e38f ? bad : 1.0f);
      values[where] = bad;
      try {
        GetParam().quantizer(values, {6, 37}, pool);
        ADD_FAILURE() << bad << " at " << where << " went through";
      } catch (const base::Error& error) {
        EXPECT_EQ(error.kind(), base::ErrorKind::input);
        EXPECT_EQ(std::string(error.what()).find("w: row " + std::to_string(where / 37)), 0u) << error.what();
      }
    }
}

TEST_P(Grids, ShapeMustFit) {
  EXPECT_THROW(GetParam().quantizer(std::vector<float>(10), {3, 4}, pool), base::Error);
}

INSTANTIATE_TEST_SUITE_P(All, Grids, ::testing::ValuesIn(cases()),
                         [](const auto& instance) { return std::string(instance.param.name); });

TEST(Quantile, PositionsAndInterpolation) {
  std::vector<float> five{5, 1, 4, 2, 3};
  EXPECT_EQ(quantile(five, 0.0f), 1.0f);
  EXPECT_EQ(quantile(five, 0.5f), 3.0f);
  EXPECT_EQ(quantile(five, 1.0f), 5.0f);
  EXPECT_FLOAT_EQ(quantile(five, 0.625f), 3.5f);
  std::vector<float> one{-7};
  EXPECT_EQ(quantile(one, 0.3f), -7.0f);
  // 512 columns: 0.9999 lies at 510.9489, 1536: 0.999 at 1533.465 (docs/spec/quantization.md section 2b).
  std::vector<float> many(512);
  for (std::size_t i = 0; i < many.size(); ++i) many[many.size() - 1 - i] = static_cast<float>(i);
  EXPECT_NEAR(quantile(many, 0.9999f), 510.9489f, 1e-4);
  many.resize(1536);
  for (std::size_t i = 0; i < many.size(); ++i) many[(i * 5) % 1536] = static_cast<float>(i);
  EXPECT_NEAR(quantile(many, 0.999f), 1533.465f, 2e-4);
}

TEST(Search, TakesTheCandidateWithTheSmallestError) {
  // Heavy tails: cutting the few largest values off pays.
  base::ThreadPool pool(2);
  const base::Random random(3, "tails");
  constexpr std::int64_t rows = 64, columns = 1536;
  std::vector<float> values(rows * columns);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(10.0 * random.normal(i));
  for (std::size_t r = 0; r < rows; ++r) values[r * columns + r] = 55.0f;  // one moderate outlier in each row

  const auto error_of = [&](const QuantizedTensor& q) {
    const auto back = restored(q, pool);
    double sum = 0;
    for (std::size_t i = 0; i < values.size(); ++i)
      sum += std::pow(static_cast<double>(values[i]) - back[i], 2);
    return sum;
  };
  double best = 0;
  float best_p = -1;
  std::vector<std::int8_t> best_q;
  for (const float p : {0.9990f, 0.9995f, 0.9999f, 0.99999f, 1.0f}) {
    QuantizedTensor q{"w", {rows, columns}, Kind::int6, {}, {}, {}};
    for (std::int64_t r = 0; r < rows; ++r) {
      std::vector<float> magnitudes(values.begin() + r * columns, values.begin() + (r + 1) * columns);
      for (auto& value : magnitudes) value = std::abs(value);
      std::sort(magnitudes.begin(), magnitudes.end());
      const double position = static_cast<double>(p * static_cast<float>(columns - 1));
      const auto below = static_cast<std::size_t>(position);
      const auto above = std::min<std::size_t>(below + 1, columns - 1);
      const double clip = magnitudes[below] +
                          (position - static_cast<double>(below)) * (magnitudes[above] - magnitudes[below]);
      q.scales.push_back(tensor::to_f16(static_cast<float>(std::max(clip / 31, 1.0 / 31))));
      const float scale = tensor::to_float(q.scales.back());
      for (std::int64_t c = 0; c < columns; ++c)
        q.q.push_back(static_cast<std::int8_t>(std::clamp(
            std::nearbyint(values[static_cast<std::size_t>(r * columns + c)] / scale), -31.0f, 31.0f)));
    }
    const double error = error_of(q);
    if (best_p < 0 || error < best) {
      best = error;
      best_p = p;
      best_q = q.q;
    }
  }
  EXPECT_LT(best_p, 1.0f) << "this matrix is meant to prefer a clip";
  EXPECT_GT(best_p, 0.0f);
  const auto found = quantize_search("w", values, {rows, columns}, 31, ClipSearch::per_matrix, pool);
  EXPECT_EQ(found.q, best_q);
  EXPECT_LT(error_of(found), error_of(quantize_rowmax("w", values, {rows, columns}, 31, pool)));
}

TEST(RowMax, RoundsHalvesToEven) {
  base::ThreadPool pool(1);
  // Row maximum 31: the scale is exactly 1.
  const std::vector<float> values{31.0f, 0.5f, 1.5f, 2.5f, -0.5f, -1.5f, -2.5f, 30.5f, 29.5f};
  const auto q = quantize_rowmax("w", values, {1, 9}, 31, pool);
  EXPECT_EQ(q.q, (std::vector<std::int8_t>{31, 0, 2, 2, 0, -2, -2, 30, 30}));
}

TEST(RowMax, SmallRowsShareTheFloorGrid) {
  base::ThreadPool pool(1);
  const std::vector<float> values{0.9f, 0.016f, 0.0162f, -0.05f};
  const auto q = quantize_rowmax("w", values, {1, 4}, 31, pool);
  EXPECT_EQ(tensor::to_float(q.scales[0]), 0.03225708f);
  EXPECT_EQ(q.q, (std::vector<std::int8_t>{28, 0, 1, -2}));
}

TEST(Fp16, RoundTripAndOverflow) {
  base::ThreadPool pool(2);
  std::vector<float> values{0.0f, -0.0f, 1.0f, 1.0f + 1.0f / 2048, 65504.0f, 6e-8f, -3.14159f};
  const auto stored = store_fp16("s", values, {7}, pool);
  EXPECT_EQ(stored.kind, Kind::fp16);
  const auto back = restored(stored, pool);
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(back[i], tensor::to_float(tensor::to_f16(values[i])));
  EXPECT_EQ(back[3], 1.0f) << "ties go to even";
  EXPECT_EQ(restored(stored, pool, true)[6], tensor::round_to_bf16(back[6]));
  for (const float bad :
       {65520.0f, std::numeric_limits<float>::quiet_NaN(), -std::numeric_limits<float>::infinity()}) {
    values[2] = bad;
    EXPECT_THROW(store_fp16("s", values, {7}, pool), base::Error) << bad;
  }
}

TEST(Dequantize, ChecksItsInput) {
  base::ThreadPool pool(1);
  auto q = quantize_rowmax("w", std::vector<float>(12), {3, 4}, 31, pool);
  std::vector<float> out(12);
  q.scales.pop_back();
  EXPECT_THROW(dequantize(q, out, pool), base::Error);
  q.scales.emplace_back();
  q.q.pop_back();
  EXPECT_THROW(dequantize(q, out, pool), base::Error);
}

TEST(Search, PerRowIsNeverWorseThanOneChoiceForTheMatrix) {
  base::ThreadPool pool(2);
  const base::Random random(3, "rows");
  constexpr std::int64_t rows = 40, columns = 1536;
  std::vector<float> values(rows * columns);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(10.0 * random.normal(i));
  // Every other row has outliers that are worth cutting off; the others do not.
  for (std::size_t r = 0; r < rows; r += 2) values[r * columns + r] = 90.0f;
  const auto whole = quantize_search("w", values, {rows, columns}, 31, ClipSearch::per_matrix, pool);
  const auto each = quantize_search("w", values, {rows, columns}, 31, ClipSearch::per_row, pool);
  const auto error_of_row = [&](const QuantizedTensor& q, std::size_t r) {
    const auto back = restored(q, pool);
    double sum = 0;
    for (std::size_t i = r * columns; i < (r + 1) * columns; ++i)
      sum += std::pow(static_cast<double>(values[i]) - back[i], 2);
    return sum;
  };
  int better = 0;
  for (std::size_t r = 0; r < rows; ++r) {
    const double w = error_of_row(whole, r), e = error_of_row(each, r);
    ASSERT_LE(e, w * (1 + 1e-6)) << r;
    better += e < w * 0.999;
  }
  EXPECT_GT(better, 0);
  for (std::size_t r = 0; r < rows; ++r)  // its choice is one of the five candidates: that of the row alone
    ASSERT_EQ(each.scales[r].bits, quantize_search("w", std::span(values).subspan(r * columns, columns),
                                                   {1, columns}, 31, ClipSearch::per_matrix, pool)
                                       .scales[0]
                                       .bits);
}

/// The fake quantiser of training (docs/spec/training.md section 11): fp32 scales.
std::vector<float> fake_quantised(const std::vector<float>& w, std::int64_t rows, std::int64_t columns) {
  std::vector<float> out(w.size());
  for (std::int64_t r = 0; r < rows; ++r) {
    float largest = 0;
    for (std::int64_t c = 0; c < columns; ++c)
      largest = std::max(largest, std::abs(w[static_cast<std::size_t>(r * columns + c)]));
    const float scale = std::max(largest / 31.0f, 1.0f / 31.0f);
    for (std::int64_t c = 0; c < columns; ++c) {
      const auto i = static_cast<std::size_t>(r * columns + c);
      out[i] = scale * std::clamp(std::nearbyint(w[i] / scale), -32.0f, 31.0f);
    }
  }
  return out;
}

TEST(RoundTrip, StoredMatricesAreFixedPointsOfTheFakeQuantiser) {
  // Section 6: below the floor the grids agree up to fp16's rounding of 1/31 (3e-5 relative), above it the
  // row's maximum is 31 steps.
  base::ThreadPool pool(2);
  constexpr std::int64_t rows = 70, columns = 128;
  for (const auto& quantizer : {rowmax6, search6}) {
    const auto q = quantizer(weights("fixed", rows, columns), {rows, columns}, pool);
    const auto stored = restored(q, pool);
    const auto fake = fake_quantised(stored, rows, columns);
    for (std::size_t i = 0; i < stored.size(); ++i) {
      const float scale = tensor::to_float(q.scales[i / columns]);
      ASSERT_EQ(std::nearbyint(fake[i] / scale), q.q[i]) << i;
      ASSERT_NEAR(fake[i], stored[i], 4e-5f * std::abs(stored[i])) << i;
    }
  }
}

TEST(Prune, DropsStrictlyBelowTheInterpolatedQuantile) {
  // |values| 1..101: the 0.02-quantile lies at position 2, so that the threshold is 3.
  std::vector<float> values(101);
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = (i % 2 ? -1.0f : 1.0f) * static_cast<float>((i * 37) % 101 + 1);
  const auto before = values;
  EXPECT_EQ(prune_threshold(values, 0.02, false), 3.0f);
  EXPECT_EQ(prune_below(values, 3.0f), 2);
  for (std::size_t i = 0; i < values.size(); ++i)
    EXPECT_EQ(values[i], std::abs(before[i]) < 3 ? 0.0f : before[i]);
}

TEST(Prune, RoundsTheThresholdForTables) {
  // 0.5-quantile of {1, 1 + 2^-6, 1 + 2^-7 * 1.5, 1 + ...}: 1.0117 rounds up to 1.015625 in bf16 and takes
  // one more.
  const std::vector<float> values{1.0f, 1.01171875f, 1.5f};
  EXPECT_EQ(prune_threshold(values, 0.5, false), 1.01171875f);
  EXPECT_EQ(prune_threshold(values, 0.5, true), 1.015625f);
  EXPECT_EQ(prune_threshold(values, 0.0, false), 0.0f);
  const std::vector<float> bad{1.0f, std::numeric_limits<float>::quiet_NaN()};
  EXPECT_THROW(prune_threshold(bad, 0.5, false), base::Error);
}

}  // namespace
}  // namespace fairway::quant
