#include <cmath>

#include "fairway/ops/matmul.h"
#include "ops/norm_cases.h"

namespace fairway::ops {
namespace {

using namespace harness;

const std::vector<Shape> shapes = {{1, 1}, {3, 65}, {2, 5, 33}, {2, 70, 128}};
/// Vectors with idle lanes, single elements, more rows than one block takes at once.
const std::vector<Shape> odd_shapes = {{1, 7}, {3, 24}, {3, 65}, {2, 500, 24}, {1000, 7}};

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
  // Embeddings start with a mean square of 2.5e-5, where epsilon is a 0.24 % effect
  // (docs/spec/model.md section 11).
  const auto c =
      op_case("", std::make_shared<RmsNorm>(2.0f, eps), {tensor_input({1, 512}, constant(0.005))}, {1});
  const double x = 0.005f, r = 1 / std::sqrt(x * x + eps);
  EXPECT_NEAR(output_values(c)[17], 2 * r * x, 1e-6);
  EXPECT_NEAR(output_values(c, 1)[0], r, 1e-4);
}

/// r alone, from the rows and (where asked) from their sums of squares; on the CPU or a GPU.
std::vector<double> inverse_rms(const Shape& shape, bool from_squares, const Setting& setting, DType dtype) {
  OpCase c =
      op_case("", std::make_shared<RmsNorm>(0.7f, eps, true), {tensor_input(shape, normal(2, 0.5))}, {1});
  c.inputs[0].meta.dtype = dtype;
  std::string problem;
  const Blocks x = make_inputs(c, false);
  std::vector<View> in = views(x);
  Blocks squares;
  if (from_squares) {
    const auto rows = x[0].values();
    const auto columns = static_cast<std::size_t>(shape.columns());
    std::vector<double> sums;
    for (std::size_t i = 0; i < rows.size(); ++i) {
      if (i % columns % squares_width == 0) sums.push_back(0);
      sums.back() += rows[i] * rows[i];
    }
    const auto meta = row_squares_of({DType::f32, shape});
    auto given = op_case("", c.op, {tensor_input(meta.shape, listed(sums), false)});
    squares = make_inputs(given, false);
    in.push_back(squares[0].view());
  }
  const auto r = execute(c, setting, {*c.op, in, {false, true}, {}, {}}, problem)[1].values();
  EXPECT_EQ(problem, "");
  return r;
}

TEST(RmsNorm, InverseFromSumsOfSquares) {
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 65}, Shape{70, 512}}) {
    const Setting here{false, base::best_isa(), nullptr};
    const auto rows = inverse_rms(shape, false, here, DType::f32);
    const auto sums = inverse_rms(shape, true, here, DType::f32);
    for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(sums[i], rows[i], 1e-6 * rows[i]);
    if (!gpu_missing().empty()) continue;
    cuda::State gpu({tensor::DeviceKind::cuda, 0});
    const auto there = inverse_rms(shape, true, {false, {}, nullptr, &gpu}, DType::f32);
    for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(there[i], rows[i], 1e-6 * rows[i]);
    const auto narrow = inverse_rms(shape, true, {false, {}, nullptr, &gpu}, DType::bf16);
    for (std::size_t i = 0; i < rows.size(); ++i) EXPECT_NEAR(narrow[i], rows[i], 1e-2 * rows[i]);
  }
}

TEST(RmsNorm, Deferred) {
  for (const Shape& shape : odd_shapes) {
    auto c = op_case("rms_norm deferred " + shape.str(), std::make_shared<RmsNorm>(0.7f, eps, true),
                     {tensor_input(shape, normal(2, 0.5))}, {1});
    c.finite_differences = false;
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(MixNorm, AllChecks) {
  for (const Shape& shape : shapes) {
    const auto d = shape.columns();
    auto c = mix_case(shape, false, false);
    c.rejects = {{{DType::f32, shape}, {DType::f32, shape}, {DType::f32, {d}}}};
    EXPECT_EQ(run_all_checks(c), "");
  }
  for (const Shape& shape : odd_shapes) EXPECT_EQ(run_all_checks(mix_case(shape, false, false)), "");
}

TEST(MixNorm, Deferred) {
  for (const Shape& shape : odd_shapes) EXPECT_EQ(run_all_checks(mix_case(shape, true, false)), "");
}

TEST(MixNorm, Skip) {
  for (const bool deferred : {false, true})
    for (const Shape& shape : odd_shapes) {
      const auto d = shape.columns();
      auto c = mix_case(shape, deferred, true);
      const Meta x{DType::f32, shape}, mix{DType::f32, {2, d}}, k{DType::f32, {d}};
      c.rejects = {{x, x, mix}, {x, x, mix, x}, {x, x, mix, k, k}, {x, x, mix, x, mix}};
      EXPECT_EQ(run_all_checks(c), "");
    }
}

TEST(MixNorm, SkipIsAResidualBefore) {
  const Shape shape{5, 33};
  auto c = mix_case(shape, false, true);
  const auto m = output_values(c), y = output_values(c, 1);
  const auto values = input_values(c);
  auto plain = mix_case(shape, false, false);
  plain.inputs[0].generator = [&](const base::Random&, std::uint64_t i) {
    return values[0][i] + values[4][i % 33] * values[3][i];
  };
  const auto m_before = output_values(plain), y_before = output_values(plain, 1);
  for (std::size_t i = 0; i < m.size(); ++i) {
    EXPECT_NEAR(m[i], m_before[i], 1e-5);
    EXPECT_NEAR(y[i], y_before[i], 1e-5);
  }
}

/// Outputs of `op`'s only backward step in f64, its gradient number `y` multiplied by scale * r where asked.
std::vector<std::vector<double>> backward_values(const OpCase& c, std::size_t y, double scale,
                                                 bool multiplied) {
  std::string problem;
  const Setting setting{true, base::best_isa(), nullptr};
  Forward f = run_forward(c, setting, none, problem);
  if (multiplied) {
    const auto r = f.out.back().values();
    auto g = f.grads[y].values();
    const auto columns = g.size() / r.size();
    for (std::size_t i = 0; i < g.size(); ++i) g[i] *= scale * r[i / columns];
    f.grads[y].assign(g);
  }
  const auto step = c.op->backward().front();
  std::vector<std::vector<double>> result;
  for (const Block& b : execute(c, setting, {*step.op, gather_reads(f, step), {}, {}, {}}, problem))
    result.push_back(b.values());
  EXPECT_EQ(problem, "");
  return result;
}

void expect_same(const std::vector<std::vector<double>>& got, const std::vector<std::vector<double>>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t k = 0; k < got.size(); ++k) {
    ASSERT_EQ(got[k].size(), want[k].size());
    for (std::size_t i = 0; i < got[k].size(); ++i)
      ASSERT_NEAR(got[k][i], want[k][i], 1e-12 * (1 + std::abs(want[k][i]))) << "output " << k << " at " << i;
  }
}

TEST(MixNorm, PrescaledIsTheSame) {
  // The unscaled form is checked by differences; on f * dy the prescaled one gives the same.
  for (const bool skip : {false, true})
    for (const Shape& shape : odd_shapes)
      expect_same(backward_values(mix_case(shape, true, skip), 1, 0.5, true),
                  backward_values(mix_case(shape, false, skip), 1, 0.5, false));
}

TEST(RmsNorm, PrescaledIsTheSame) {
  for (const Shape& shape : odd_shapes) {
    const auto rms = [&](bool deferred) {
      return op_case("", std::make_shared<RmsNorm>(0.7f, eps, deferred),
                     {tensor_input(shape, normal(2, 0.5))}, {1});
    };
    expect_same(backward_values(rms(true), 0, 0.7f, true), backward_values(rms(false), 0, 0.7f, false));
  }
}

TEST(Norms, AttributesTellTheForms) {
  EXPECT_EQ(RmsNorm(1, eps).attributes().find("deferred"), std::string::npos);
  EXPECT_NE(RmsNorm(1, eps, true).attributes().find("deferred"), std::string::npos);
  EXPECT_NE(MixNorm(1, eps, true, true).attributes().find("deferred skip"), std::string::npos);
  const auto step = MixNorm(1, eps, true, true).backward().front();
  EXPECT_NE(step.op->attributes().find("prescaled skip"), std::string::npos);
}

/// r, and m where there is one, without y give the bytes that they have beside it.
void expect_deferred_forward(const OpCase& c, std::vector<bool> wanted) {
  std::string problem;
  const Setting setting{false, base::best_isa(), nullptr};
  const Blocks in = make_inputs(c, false);
  const Blocks all = execute(c, setting, {*c.op, views(in), {}, {}, {}}, problem);
  const Blocks some = execute(c, setting, {*c.op, views(in), wanted, {}, {}}, problem);
  for (std::size_t k = 0; k < wanted.size(); ++k)
    EXPECT_TRUE(!wanted[k] || some[k].same_bytes(all[k])) << c.name << " output " << k;
  EXPECT_EQ(problem, "");
}

TEST(Norms, WithoutTheNormedRows) {
  for (const Shape& shape : odd_shapes) {
    for (const bool skip : {false, true})
      expect_deferred_forward(mix_case(shape, true, skip), {true, false, true});
    expect_deferred_forward(
        op_case("rms_norm", std::make_shared<RmsNorm>(0.7f, eps, true), {tensor_input(shape, normal())}, {1}),
        {false, true});
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
