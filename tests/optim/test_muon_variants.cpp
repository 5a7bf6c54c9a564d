// What the CaseOps systems do differently (docs/spec/caseops_training.md section 4), against the originals:
// Polar Express, rows of length 1, momentum in bf16.
#include <gtest/gtest.h>

#include <cmath>

#include "fairway/optim/muon.h"
#include "helpers.h"
#include "support/compare.h"
#include "support/safetensors.h"

namespace fairway::optim {
namespace {

using tensor::DType;

std::vector<float> floats_of(const testing::GoldenArray& array) {
  if (array.dtype == "F32") return array.as<float>();
  std::vector<float> values;
  for (const std::uint16_t bits : array.as<std::uint16_t>()) {
    const std::uint32_t wide = std::uint32_t{bits} << 16;
    float value = 0;
    std::memcpy(&value, &wide, sizeof value);
    values.push_back(value);
  }
  return values;
}

double norm(std::span<const float> a, std::span<const float> b = {}) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i)
    sum += std::pow(static_cast<double>(a[i]) - (b.empty() ? 0.0 : static_cast<double>(b[i])), 2);
  return std::sqrt(sum);
}

/// A matrix, or the slices of a bank.
struct Slices {
  std::int64_t count, rows, columns;
  explicit Slices(const std::vector<std::int64_t>& shape)
      : count(shape.size() == 3 ? shape[0] : 1), rows(shape[shape.size() - 2]), columns(shape.back()) {}
  std::size_t elements() const { return static_cast<std::size_t>(rows * columns); }
};

TEST(PolarExpress, IsTheOriginals) {
  const auto golden = testing::read_golden("polar_express");
  for (const std::string i : {"0", "1", "2", "3"})
    for (const auto dtype : {DType::f32, DType::bf16}) {
      const auto& g = golden.at(i + "/G");
      const Slices slices(g.shape);
      const auto values = g.as<float>();
      NewtonSchulz workspace(slices.rows * slices.columns, std::min(slices.rows, slices.columns));
      std::vector<float> results;
      for (std::int64_t s = 0; s < slices.count; ++s) {
        const auto part =
            std::span(values).subspan(static_cast<std::size_t>(s) * slices.elements(), slices.elements());
        std::ranges::copy(part, workspace.input(slices.rows, slices.columns).begin());
        const auto o = workspace.run(slices.rows, slices.columns, 5, dtype, NsCoefficients::polar_express);
        results.insert(results.end(), o.begin(), o.end());
      }
      if (dtype == DType::f32)
        EXPECT_LE(testing::max_relative(results, golden.floats(i + "/fp32")), 1e-4) << i;
      else
        EXPECT_EQ(results, floats_of(golden.at(i + "/bf16"))) << i;
    }
}

/// Four steps on the golden gradients; how far the weights are from the original's after the last one, as
/// part of what they moved, at worst.
struct Outcome {
  double weights = 0, momentum = 0;
};
Outcome four_steps(const std::string& system, const UpdateRule& rule, int matrices) {
  const auto golden = testing::read_golden("muon_row_normalised");
  base::ThreadPool pool(2);
  std::vector<std::vector<float>> values, gradients;
  std::vector<Slices> slices;
  std::vector<MuonMatrix> all;
  for (int i = 0; i < matrices; ++i) {
    const auto& start = golden.at(fmt::format("W{}/0", i));
    values.push_back(start.as<float>());
    gradients.emplace_back(values.back().size());
    slices.emplace_back(start.shape);
  }
  for (int i = 0; i < matrices; ++i)
    for (std::int64_t s = 0; s < slices[static_cast<std::size_t>(i)].count; ++s) {
      const auto& z = slices[static_cast<std::size_t>(i)];
      const auto at = static_cast<std::size_t>(s) * z.elements();
      const auto k = static_cast<std::size_t>(i);
      all.push_back({fmt::format("{}.{}", i, s), std::span(values[k]).subspan(at, z.elements()),
                     std::span(gradients[k]).subspan(at, z.elements()), z.rows, z.columns});
    }
  Muon muon(rule, all, pool);
  for (int step = 1; step <= 4; ++step) {
    for (int i = 0; i < matrices; ++i)
      std::ranges::copy(golden.floats(fmt::format("g{}/{}", i, step)),
                        gradients[static_cast<std::size_t>(i)].begin());
    muon.step(0.026 * (1 - 0.1 * step), (236 + 2 * step) / 256.0, 1.0f);
  }
  Outcome worst;
  for (int i = 0; i < matrices; ++i) {
    const auto start = golden.floats(fmt::format("W{}/0", i)),
               end = golden.floats(fmt::format("{}/W{}/4", system, i));
    worst.weights =
        std::max(worst.weights, norm(values[static_cast<std::size_t>(i)], end) / norm(end, start));
  }
  const auto state = muon.state("");
  std::vector<float> momentum(state[0].bytes.size() / sizeof(float));
  std::memcpy(momentum.data(), state[0].bytes.data(), state[0].bytes.size());
  worst.momentum = testing::max_difference(momentum, floats_of(golden.at(system + "/momentum0/4")));
  return worst;
}

TEST(MuonVariants, RowsOfLengthOneInFloat) {
  const auto outcome = four_steps(
      "pr1855_fp32",
      {.weight_decay = 0.095, .ns_coefficients = NsCoefficients::polar_express, .row_norm = true}, 3);
  EXPECT_LE(outcome.weights, 1e-4);
  EXPECT_LE(outcome.momentum, 1e-6);
}

TEST(MuonVariants, TheLeadersMomentumIsInBf16) {
  const auto outcome = four_steps("pr1855",
                                  {.weight_decay = 0.095,
                                   .ns_dtype = DType::bf16,
                                   .ns_coefficients = NsCoefficients::polar_express,
                                   .row_norm = true,
                                   .momentum_dtype = DType::bf16},
                                  3);
  EXPECT_LE(outcome.weights, 2e-3);
  EXPECT_EQ(outcome.momentum, 0);
}

TEST(MuonVariants, Pr2143HasTheFixedQuinticBehindRowsOfLengthOne) {
  const auto outcome =
      four_steps("pr2143", {.weight_decay = 0.095, .ns_dtype = DType::bf16, .row_norm = true}, 2);
  EXPECT_LE(outcome.weights, 2e-2);
  EXPECT_LE(outcome.momentum, 1e-6);
}

TEST(MuonVariants, AZeroRowStaysZero) {
  base::ThreadPool pool(1);
  std::vector<float> values(4 * 8), gradient(4 * 8);
  for (std::size_t i = 8; i < gradient.size(); ++i) gradient[i] = static_cast<float>(i % 5) - 2;
  Muon muon({.row_norm = true}, {{"w", values, gradient, 4, 8}}, pool);
  muon.step(0.1, 0.9, 1.0f);
  for (std::size_t i = 0; i < 8; ++i) EXPECT_EQ(values[i], 0);
  EXPECT_GT(norm(values), 0.1);
}

}  // namespace
}  // namespace fairway::optim
