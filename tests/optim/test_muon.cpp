// Muon against the original implementation (tests/golden/muon, newton_schulz_fp32) and against double
// precision.
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <string>
#include <vector>

#include "fairway/optim/muon.h"
#include "helpers.h"
#include "support/compare.h"
#include "support/safetensors.h"

namespace fairway::optim {
namespace {

double distance(std::span<const float> a, std::span<const float> b) {
  double sum = 0;
  for (std::size_t i = 0; i < a.size(); ++i) sum += std::pow(static_cast<double>(a[i]) - b[i], 2);
  return std::sqrt(sum);
}

std::vector<float> newton_schulz(std::span<const float> g, std::int64_t rows, std::int64_t columns, int steps,
                                 tensor::DType precision = tensor::DType::f32) {
  NewtonSchulz workspace(rows * columns, std::min(rows, columns));
  std::ranges::copy(g, workspace.input(rows, columns).begin());
  const auto o = workspace.run(rows, columns, steps, precision);
  return {o.begin(), o.end()};
}

/// The definition, in double precision and without any of the shortcuts.
std::vector<double> reference(std::span<const float> g, std::int64_t rows, std::int64_t columns, int steps) {
  const bool tall = rows > columns;
  const std::int64_t m = std::min(rows, columns), k = std::max(rows, columns);
  std::vector<double> x(g.size());
  double norm = 0;
  for (const float value : g) norm += static_cast<double>(value) * value;
  norm = std::sqrt(norm) + 1e-7;
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c)
      x[static_cast<std::size_t>(tall ? c * k + r : r * k + c)] =
          g[static_cast<std::size_t>(r * columns + c)] / norm;
  const auto at = [](std::int64_t i) { return static_cast<std::size_t>(i); };
  for (int step = 0; step < steps; ++step) {
    std::vector<double> a(at(m * m)), p(at(m * m)), y(at(m * k));
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t j = 0; j < m; ++j)
        for (std::int64_t t = 0; t < k; ++t) a[at(i * m + j)] += x[at(i * k + t)] * x[at(j * k + t)];
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t t = 0; t < m; ++t)
        for (std::int64_t j = 0; j < m; ++j) p[at(i * m + j)] += 2.0315 * a[at(i * m + t)] * a[at(t * m + j)];
    for (std::int64_t i = 0; i < m * m; ++i)
      p[at(i)] += -4.7750 * a[at(i)] + (i % (m + 1) == 0 ? 3.4445 : 0.0);
    for (std::int64_t i = 0; i < m; ++i)
      for (std::int64_t t = 0; t < m; ++t)
        for (std::int64_t j = 0; j < k; ++j) y[at(i * k + j)] += p[at(i * m + t)] * x[at(t * k + j)];
    x = y;
  }
  std::vector<double> o(g.size());
  for (std::int64_t r = 0; r < rows; ++r)
    for (std::int64_t c = 0; c < columns; ++c) o[at(r * columns + c)] = x[at(tall ? c * k + r : r * k + c)];
  return o;
}

TEST(NewtonSchulz, AgreesWithTheOriginalInFp32) {
  const auto golden = testing::read_golden("newton_schulz_fp32");
  for (const std::string i : {"0", "1", "2"}) {
    const auto& g = golden.at("G" + i);
    const auto o = newton_schulz(g.as<float>(), g.shape[0], g.shape[1], 5);
    EXPECT_LE(testing::max_relative(o, golden.floats("NS" + i)), 1e-4) << "matrix " << i;
  }
}

class NewtonSchulzShapes : public ::testing::TestWithParam<std::pair<int, int>> {};

TEST_P(NewtonSchulzShapes, AgreesWithDoublePrecision) {
  const auto [rows, columns] = GetParam();
  auto g = normals("shape", static_cast<std::size_t>(rows * columns));
  for (int r = 0; r < rows; ++r)  // a spectrum over three decades
    for (int c = 0; c < columns; ++c)
      g[static_cast<std::size_t>(r * columns + c)] *=
          std::pow(10.0f, -3.0f * static_cast<float>(r) / static_cast<float>(rows));
  for (const int steps : {1, 3, 5, 7}) {
    const auto o = newton_schulz(g, rows, columns, steps);
    const auto expected = reference(g, rows, columns, steps);
    EXPECT_LE(testing::max_relative(o, expected), 1e-3) << steps << " steps";
    EXPECT_GT(testing::max_magnitude(expected), 0.0);
  }
}

INSTANTIATE_TEST_SUITE_P(OddSizes, NewtonSchulzShapes,
                         ::testing::Values(std::pair{1, 1}, std::pair{1, 37}, std::pair{37, 1},
                                           std::pair{65, 65}, std::pair{70, 211}, std::pair{211, 70},
                                           std::pair{129, 150}, std::pair{150, 129}));

TEST(NewtonSchulz, ZeroGivesZero) {
  for (const auto precision : {tensor::DType::f32, tensor::DType::bf16})
    for (const auto& [rows, columns] : {std::pair{64, 64}, std::pair{16, 80}, std::pair{80, 16}})
      for (const float value : newton_schulz(std::vector<float>(static_cast<std::size_t>(rows * columns)),
                                             rows, columns, 5, precision))
        ASSERT_EQ(value, 0.0f);
}

TEST(NewtonSchulz, TinyGradientsDoNotUnderflow) {
  // Entries near 1e-20: squares vanish in fp32. The norm is below its epsilon, so the result is linear in G.
  const auto g = normals("tiny", 48 * 48, 1e-20);
  const auto o = newton_schulz(g, 48, 48, 5);
  const double growth = std::pow(3.4445, 5) / 1e-7;
  for (std::size_t i = 0; i < g.size(); ++i)
    ASSERT_NEAR(o[i], g[i] * growth, 1e-4 * std::abs(g[i] * growth) + 1e-30);
}

/// Worst ||delta||_F / ||update||_F over three matrices and four steps, each step from the original's weights
/// before it (the momentum is our own from the first step on).
double worst_golden_error(tensor::DType precision) {
  const auto golden = testing::read_golden("muon");
  base::ThreadPool pool(2);
  std::vector<std::vector<float>> values(3), gradients(3);
  std::vector<MuonMatrix> matrices;
  for (int i = 0; i < 3; ++i) {
    const auto name = "W" + std::to_string(i);
    const auto& shape = golden.at(name + "/0").shape;
    const auto index = static_cast<std::size_t>(i);
    values[index] = golden.floats(name + "/0");
    gradients[index].resize(values[index].size());
    matrices.push_back({name, values[index], gradients[index], shape[0], shape[1]});
  }
  Muon muon({.weight_decay = 0.04, .ns_steps = 5, .ns_dtype = precision}, matrices, pool);
  testing::Largest worst;
  for (int step = 1; step <= 4; ++step) {
    const auto tag = "/" + std::to_string(step);
    for (std::size_t i = 0; i < 3; ++i) {
      std::ranges::copy(golden.floats("g" + std::to_string(i) + tag), gradients[i].begin());
      std::ranges::copy(golden.floats("W" + std::to_string(i) + "/" + std::to_string(step - 1)),
                        values[i].begin());
    }
    muon.step(0.025 * (1 - 0.1 * step), 0.92 + 0.01 * step, 1.0f);
    for (std::size_t i = 0; i < 3; ++i) {
      const auto name = "W" + std::to_string(i);
      const auto now = golden.floats(name + tag),
                 before = golden.floats(name + "/" + std::to_string(step - 1));
      worst.see(distance(values[i], now) / distance(now, before));
    }
  }
  return worst.value();
}

TEST(Muon, AgreesWithTheOriginalInBf16) { EXPECT_LE(worst_golden_error(tensor::DType::bf16), 2e-2); }
TEST(Muon, AgreesWithTheOriginalWithinItsRounding) {
  EXPECT_LE(worst_golden_error(tensor::DType::f32), 5e-2);
}

TEST(Muon, ZeroGradientOnlyDecays) {
  base::ThreadPool pool(1);
  auto values = normals("w", 32 * 48);
  const auto before = values;
  const std::vector<float> gradient(values.size());
  Muon muon({.weight_decay = 0.5}, {{"w", values, gradient, 32, 48}}, pool);
  muon.step(0.1, 0.95, 1.0f);
  for (std::size_t i = 0; i < values.size(); ++i) ASSERT_EQ(values[i], before[i] * 0.95f);
}

TEST(Muon, MomentumIsNesterovWithoutDamping) {
  // A 1 x 1 matrix shows the direction's sign alone; its momentum buffer shows the recurrence.
  base::ThreadPool pool(1);
  std::vector<float> value{0.0f}, gradient{1.0f};
  Muon muon({.weight_decay = 0.0}, {{"w", value, gradient, 1, 1}}, pool);
  float buffer = 0;
  muon.step(0.1, 0.5, 2.0f);  // B = 2, clip factor applied to the gradient
  const auto state = muon.state("");
  ASSERT_EQ(state.size(), 1u);
  EXPECT_EQ(state[0].name, "w.momentum");
  ASSERT_EQ(state[0].bytes.size(), sizeof buffer);
  std::memcpy(&buffer, state[0].bytes.data(), sizeof buffer);
  EXPECT_EQ(buffer, 2.0f);
  gradient[0] = -1.5f;
  const float before = value[0];
  muon.step(0.1, 0.5, 1.0f);  // B = 1 - 1.5 = -0.5, G = -1.5 - 0.25
  std::memcpy(&buffer, state[0].bytes.data(), sizeof buffer);
  EXPECT_EQ(buffer, -0.5f);
  EXPECT_GT(value[0], before);
}

TEST(Muon, TallMatricesMoveMore) {
  base::ThreadPool pool(1);
  const auto g = normals("g", 64 * 256);
  std::vector<float> wide(g.size()), tall(g.size()), transposed(g.size());
  for (std::size_t r = 0; r < 64; ++r)
    for (std::size_t c = 0; c < 256; ++c) transposed[c * 64 + r] = g[r * 256 + c];
  Muon muon({.weight_decay = 0.0}, {{"wide", wide, g, 64, 256}, {"tall", tall, transposed, 256, 64}}, pool);
  muon.step(0.1, 0.9, 1.0f);
  for (std::size_t r = 0; r < 64; ++r)
    for (std::size_t c = 0; c < 256; ++c) ASSERT_NEAR(tall[c * 64 + r], 2.0f * wide[r * 256 + c], 1e-5);
}

}  // namespace
}  // namespace fairway::optim
