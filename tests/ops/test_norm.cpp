#include "fairway/ops/norm.h"

#include <cmath>

#include "ops/direct.h"

namespace fairway::ops {
namespace {

using namespace harness;

constexpr float eps = 0x1p-23f;
const std::vector<Shape> shapes = {{1, 1}, {3, 65}, {2, 5, 33}, {2, 70, 128}};

TEST(RmsNorm, AllChecks) {
  for (const Shape& shape : shapes) {
    // One column: y is almost the sign of x, and its gradient is all rounding unless epsilon is large.
    auto c = op_case("rms_norm " + shape.str(),
                     std::make_shared<RmsNorm>(0.70710678f, shape.columns() == 1 ? 0.5f : eps),
                     {tensor_input(shape, normal(2, 0.5))}, {1});
    c.add_outputs = {0};
    c.rejects = {{{DType::f32, {}}}};
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(RmsNorm, ZeroRowsStayZeroAndFinite) {
  const auto c = op_case("", std::make_shared<RmsNorm>(1.0f, eps), {tensor_input({2, 40}, constant(0))}, {1});
  for (double y : output_values(c)) EXPECT_EQ(y, 0);
  for (double r : output_values(c, 1)) EXPECT_NEAR(r, std::sqrt(0x1p23), 1e-3);
  auto checked = c;
  checked.name = "zero rows";
  EXPECT_EQ(check_precision(checked), "");
}

TEST(RmsNorm, EpsilonCountsForSmallRows) {
  // Embeddings start with a mean square of 2.5e-5, where epsilon is a 0.24 % effect (spec/model.md section
  // 11).
  const auto c =
      op_case("", std::make_shared<RmsNorm>(2.0f, eps), {tensor_input({1, 512}, constant(0.005))}, {1});
  const double x = 0.005f, r = 1 / std::sqrt(x * x + eps);
  EXPECT_NEAR(output_values(c)[17], 2 * r * x, 1e-6);
  EXPECT_NEAR(output_values(c, 1)[0], r, 1e-4);
}

TEST(MixNorm, AllChecks) {
  for (const Shape& shape : shapes) {
    const auto d = shape.columns();
    auto c = op_case(
        "mix_norm " + shape.str(), std::make_shared<MixNorm>(0.5f, eps),
        {tensor_input(shape, normal()), tensor_input(shape, normal()), tensor_input({2, d}, normal(0.5, 1))},
        {2});
    c.add_outputs = {0, 1};
    c.rejects = {{{DType::f32, shape}, {DType::f32, shape}, {DType::f32, {d}}}};
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(ResidualNorm, AllChecks) {
  for (const Shape& shape : shapes) {
    const auto d = shape.columns();
    auto c = op_case(
        "residual_norm " + shape.str(), std::make_shared<ResidualNorm>(0.5f, eps),
        {tensor_input(shape, normal()), tensor_input(shape, normal()), tensor_input({d}, normal(0.5, 1))},
        {2});
    c.add_outputs = {0, 1};
    c.rejects = {{{DType::f32, shape}, {DType::f32, shape}, {DType::f32, {d + 1}}}};
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(ResidualNorm, ParameterGradientsOverManyPieces) {
  // More rows than one piece of partial sums holds, with an odd rest.
  auto c = op_case("residual_norm pieces", std::make_shared<ResidualNorm>(1.0f, eps),
                   {tensor_input({1, 4099, 16}, normal()), tensor_input({1, 4099, 16}, normal()),
                    tensor_input({16}, normal())},
                   {2});
  c.tolerance = 1e-4;
  EXPECT_EQ(check_precision(c), "");
  EXPECT_EQ(check_threads(c), "");
}

TEST(MixNorm, UnwantedMixKeepsTheNorm) {
  // A recomputation in backward asks for y alone.
  const auto c = op_case(
      "", std::make_shared<MixNorm>(0.5f, eps),
      {tensor_input({3, 65}, normal()), tensor_input({3, 65}, normal()), tensor_input({2, 65}, normal())});
  std::string problem;
  const Setting setting{false, base::best_isa(), nullptr};
  const Blocks in = make_inputs(c, false);
  const Blocks some = execute(c, setting, {*c.op, views(in), {false, true, false}, {}, {}}, problem);
  EXPECT_EQ(some[1].values(), output_values(c, 1));
  EXPECT_EQ(problem, "");
}

}  // namespace
}  // namespace fairway::ops
