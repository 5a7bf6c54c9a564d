#include "fairway/ops/linear_square.h"

#include "fairway/ops/activation.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/scale_rows.h"
#include "ops/direct.h"

namespace fairway::ops {
namespace {

using namespace harness;

struct Sizes {
  std::int64_t m, n, k;  // rows, width between the layers, width around them
};
const Sizes sizes[] = {{1, 1, 1}, {3, 7, 33}, {65, 130, 33}};

TEST(LinearSquare, AllChecks) {
  for (const auto& [m, n, k] : sizes) {
    auto c = op_case(fmt::format("linear_square {}x{}x{}", m, n, k), std::make_shared<LinearSquare>(0.5f),
                     {tensor_input({m, k}, normal()), tensor_input({n, k}, normal())}, {0});
    c.rejects = {{{DType::f32, {m, k}}, {DType::f32, {n, k + 1}}}};
    c.probes = 6;
    EXPECT_EQ(run_all_checks(c), "");
  }
}

/// Behind a deferred norm: rows m, their 1 / rms in r.
OpCase deferred_linear_square(const Sizes& s) {
  const auto& [m, n, k] = s;
  auto c = op_case(fmt::format("deferred linear_square {}x{}x{}", m, n, k),
                   std::make_shared<LinearSquare>(0.5f, 0.7f),
                   {absent_input(), tensor_input({n, k}, normal(), false),
                    tensor_input({m, k}, normal(), false), tensor_input({m}, uniform(0.5, 2), false)},
                   {0});
  c.finite_differences = false;  // its gradient is that of m w^T: DeferredIsTheProductOfScaledRows
  return c;
}

TEST(LinearSquare, DeferredChecks) {
  for (const auto& s : sizes) {
    auto c = deferred_linear_square(s);
    c.rejects = {{{}, c.inputs[1].meta, c.inputs[2].meta},
                 {{}, c.inputs[1].meta, c.inputs[2].meta, {DType::f32, {s.m + 1}}}};
    EXPECT_EQ(run_all_checks(c), "");
    EXPECT_EQ(c.op->gradient_only(), std::vector<int>{0});
  }
}

TEST(LinearSquare, DeferredIsTheProductOfScaledRows) {
  const auto c = deferred_linear_square(sizes[2]);
  const auto values = input_values(c);  // listed again below: inputs draw by their place in the list
  const auto& [m, n, k] = sizes[2];
  const auto rows =
      output_values(op_case("", std::make_shared<ScaleRows>(0.7f),
                            {tensor_input({m, k}, listed(values[2])), tensor_input({m}, listed(values[3]))}));
  const auto plain = op_case("", std::make_shared<LinearSquare>(0.5f),
                             {tensor_input({m, k}, listed(rows)), tensor_input({n, k}, listed(values[1]))});
  EXPECT_EQ(output_values(c, 0), output_values(plain, 0));
  EXPECT_EQ(output_values(c, 1), output_values(plain, 1));
}

TEST(LinearSquare, EachOutputAlone) {
  const auto c = op_case("", std::make_shared<LinearSquare>(0.5f),
                         {tensor_input({65, 33}, normal()), tensor_input({130, 33}, normal())});
  const Setting setting{false, base::best_isa(), nullptr};
  std::string problem;
  const Blocks in = make_inputs(c, false);
  const Blocks both = execute(c, setting, {*c.op, views(in), {}, {}, {}}, problem);
  for (const std::size_t wanted : {0u, 1u}) {
    const Blocks one = execute(c, setting, {*c.op, views(in), {wanted == 0, wanted == 1}, {}, {}}, problem);
    EXPECT_TRUE(one[wanted].same_bytes(both[wanted])) << wanted;
  }
  EXPECT_EQ(problem, "");
}

TEST(LinearSquare, ActivationIsOfTheStoredSum) {
  const auto c = op_case("", std::make_shared<LinearSquare>(0.5f),
                         {tensor_input({5, 33}, normal()), tensor_input({7, 33}, normal())});
  const auto act = output_values(c, 0), h = output_values(c, 1);
  const auto again =
      op_case("", std::make_shared<LeakySquare>(0.5f), {tensor_input({5, 7}, listed(std::vector(h)))});
  EXPECT_EQ(act, output_values(again));
  EXPECT_EQ(h, output_values(op_case("", std::make_shared<Matmul>(false, true), c.inputs)));
}

OpCase square_linear_add(const Sizes& s, bool with_h) {
  const auto& [m, n, k] = s;
  auto c = op_case(
      fmt::format("square_linear_add {}x{}x{}{}", m, n, k, with_h ? "" : " without h"),
      std::make_shared<SquareLinearAdd>(0.5f),
      {with_h ? tensor_input({m, n}, normal()) : absent_input(), tensor_input({m, n}, normal(), false),
       tensor_input({k, n}, normal()), tensor_input({m, k}, normal())});
  c.probes = 6;
  return c;
}

TEST(SquareLinearAdd, AllChecks) {
  for (const auto& s : sizes) {
    auto c = square_linear_add(s, true);
    c.rejects = {{{DType::f32, {s.m, s.n + 1}},
                  {DType::f32, {s.m, s.n}},
                  {DType::f32, {s.k, s.n}},
                  {DType::f32, {s.m, s.k}}}};
    c.finite_differences = false;  // of h: forward reads act instead; the pair is checked with the graph
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(SquareLinearAdd, GradientsOfWeightAndResidual) {
  for (const auto& s : sizes) {
    auto c = square_linear_add(s, true);
    c.inputs[0].differentiable = false;
    EXPECT_EQ(check_gradient(c), "");
  }
}

TEST(SquareLinearAdd, ReluNeedsNoSumInBackward) {
  const auto& [m, n, k] = sizes[2];
  auto relu = [](const base::Random& r, std::uint64_t i) { return std::pow(std::max(0.0, r.normal(i)), 2); };
  auto c = op_case("relu square_linear_add", std::make_shared<SquareLinearAdd>(0.0f),
                   {absent_input(), tensor_input({m, n}, relu, false), tensor_input({k, n}, normal()),
                    tensor_input({m, k}, normal())});
  EXPECT_EQ(c.op->gradient_only(), std::vector<int>{0});
  EXPECT_EQ(run_all_checks(c), "");

  const InputSpec du = tensor_input({m, k}, normal()), w = tensor_input({k, n}, normal());
  const auto h = input_values(op_case("", c.op, {du, w, tensor_input({m, n}, normal())}))[2];
  std::vector<double> act;
  for (const double v : h) act.push_back(static_cast<float>(std::max(0.0, v) * std::max(0.0, v)));
  const auto from_h = output_values(
      op_case("", std::make_shared<SquareLinearBackward>(0.0f), {du, w, tensor_input({m, n}, listed(h))}));
  const auto from_act = output_values(op_case("", std::make_shared<SquareLinearBackward>(0.0f, 1.0f, true),
                                              {du, w, tensor_input({m, n}, listed(act))}));
  for (std::size_t i = 0; i < from_h.size(); ++i)
    EXPECT_NEAR(from_act[i], from_h[i], 1e-6 * std::abs(from_h[i])) << i;
}

TEST(SquareLinearAdd, ForwardNeedsNoSum) {
  const auto with = square_linear_add(sizes[2], true), without = square_linear_add(sizes[2], false);
  EXPECT_EQ(output_values(with), output_values(without));
}

TEST(ScaleRows, AllChecks) {
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 65}, Shape{2, 70, 33}}) {
    const Shape rows = shape.rank() == 3 ? Shape{2, 70} : Shape{shape[0]};
    auto c = op_case("scale_rows " + shape.str(), std::make_shared<ScaleRows>(0.5f),
                     {tensor_input(shape, normal(), false), tensor_input(rows, normal(), false)});
    c.add_outputs = {0};
    c.rejects = {{{DType::f32, shape}, {DType::f32, shape}}};
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(SquareLinearBackward, GivesTheGradientBeforeTheRowsFactor) {
  const InputSpec du = tensor_input({5, 33}, normal(), false), w = tensor_input({33, 7}, normal(), false),
                  h = tensor_input({5, 7}, normal(), false);
  const std::vector<double> r = {1, 2, 0.5, -1, 0};
  const auto plain = op_case("", std::make_shared<SquareLinearBackward>(0.5f), {du, w, h});
  auto scaled = plain;
  scaled.op = std::make_shared<SquareLinearBackward>(0.5f, 2.0f);
  scaled.inputs.push_back(tensor_input({5}, listed(r), false));
  const auto dh = output_values(plain), dz = output_values(scaled);
  for (std::size_t i = 0; i < dh.size(); ++i) EXPECT_FLOAT_EQ(dz[i], 2 * r[i / 7] * dh[i]);
  EXPECT_EQ(run_all_checks(scaled), "");
}

TEST(SquareLinearBackward, IsProductAndActivation) {
  const auto du = tensor_input({5, 33}, normal()), w = tensor_input({33, 7}, normal());
  const auto h = listed({2, -2, 0, -0.5, 1, -3, 4});
  const InputSpec each =
      tensor_input({5, 7}, [h](const base::Random& r, std::uint64_t i) { return h(r, i % 7); });
  const auto dh = output_values(op_case("", std::make_shared<SquareLinearBackward>(0.5f), {du, w, each}));
  const auto dact = output_values(op_case("", std::make_shared<Matmul>(false, false), {du, w}));
  const double slope[] = {4, -1, 0, -0.25, 2, -1.5, 8};
  for (std::size_t i = 0; i < dh.size(); ++i) EXPECT_FLOAT_EQ(dh[i], slope[i % 7] * dact[i]);
}

}  // namespace
}  // namespace fairway::ops
