#include "fairway/ops/matmul.h"
#include "fairway/ops/scale_rows.h"
#include "ops/qkv_cases.h"

namespace fairway::ops {
namespace {

using namespace harness;

const QkvGeometry geometries[] = {
    {{1, 1, 2}, 2, 1, 1}, {{4, 2, 16}, 4, 2, 5}, {{2, 2, 33}, 8, 1, 7}, {{6, 2, 24}, 0, 3, 3}};

TEST(QkvProduct, AllChecks) {
  for (const auto& g : geometries)
    for (const bool ve : {false, true})
      for (const bool offset : {false, true})
        EXPECT_EQ(run_all_checks(qkv_product_case(g, 13, {ve, offset})), "");
}

TEST(QkvProduct, DeferredChecks) {
  for (const auto& g : geometries)
    for (const bool ve : {false, true}) {
      auto c = qkv_product_case(g, 13, {ve, false, true});
      c.norm_tolerance = 2e-2;  // on a GPU: few numbers, each rounded to bf16 three times
      EXPECT_EQ(run_all_checks(c), "");
      EXPECT_EQ(c.op->gradient_only(), std::vector<int>{0});
    }
}

TEST(QkvProduct, IsTheProductAndItsPreparation) {
  for (const bool ve : {false, true}) {
    const auto c = qkv_product_case({{4, 2, 16}, 8, 2, 37}, 40, {ve, true});
    const auto values = input_values(c);  // listed again below: inputs draw by their place in the list
    const auto again = [&](std::size_t i) {
      auto spec = c.inputs[i];
      if (spec.generator) spec.generator = listed(values[i]);
      return spec;
    };
    const auto raw = output_values(op_case("", std::make_shared<Matmul>(false, true), {again(0), again(1)}));
    const auto old = op_case("", std::make_shared<QkvPrepare>(HeadShape{4, 2, 16}, 8, 0x1p-23f, ve),
                             {tensor_input({2, 37, 128}, listed(raw)), again(2), again(3), again(4), again(5),
                              again(6), again(7)});
    for (std::size_t k = 0; k < 4; ++k) EXPECT_EQ(output_values(c, k), output_values(old, k));
  }
}

/// Gradients of all inputs in f64, each backward step's as make_temporaries and the graph run them.
std::vector<std::vector<double>> gradients(const OpCase& c) {
  std::string problem;
  const Setting setting{true, base::best_isa(), nullptr};
  const Forward f = run_forward(c, setting, none, problem);
  std::vector<std::vector<double>> all(c.inputs.size());
  for (const BackwardStep& step : c.op->backward()) {
    const Blocks out = execute(c, setting, {*step.op, gather_reads(f, step), {}, {}, {}}, problem);
    for (std::size_t k = 0; k < out.size(); ++k)
      if (step.grads[k] >= 0) all[static_cast<std::size_t>(step.grads[k])] = out[k].values();
  }
  EXPECT_EQ(problem, "");
  return all;
}

void expect_near(const std::vector<double>& got, const std::vector<double>& want) {
  ASSERT_EQ(got.size(), want.size());
  for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-9 * (1 + std::abs(want[i])));
}

TEST(QkvProduct, DeferredIsTheProductOfScaledRows) {
  const QkvGeometry g{{4, 2, 16}, 8, 2, 9};
  const std::int64_t depth = 24;
  auto deferred = qkv_product_case(g, depth, {true, false, true});
  const auto values = input_values(deferred);
  auto plain = qkv_product_case(g, depth, {true, false, false});
  for (std::size_t i = 0; i < deferred.inputs.size(); ++i)
    if (deferred.inputs[i].generator) {
      deferred.inputs[i].generator = listed(values[i]);
      if (i < plain.inputs.size()) plain.inputs[i].generator = listed(values[i]);
    }
  // The rows that were left out, exact in f64: inputs are rounded to f32, so m and r have few digits.
  const auto short_digits = [](double x) { return std::round(x * 256) / 256; };
  std::vector<double> m = values[8], r = values[9], y(m.size());
  for (double& x : m) x = short_digits(x);
  for (double& x : r) x = short_digits(x);
  deferred.op = std::make_shared<QkvProduct>(g.heads, g.rope_dims, 0x1p-23f, true, 0.75f);
  for (std::size_t i = 0; i < y.size(); ++i) y[i] = 0.75 * r[i / depth] * m[i];
  deferred.inputs[8].generator = listed(m);
  deferred.inputs[9].generator = listed(r);
  plain.inputs[0].generator = listed(y);
  for (std::size_t k = 0; k < 4; ++k) {
    const auto got = output_values(deferred, k), want = output_values(plain, k);
    for (std::size_t i = 0; i < got.size(); ++i) ASSERT_NEAR(got[i], want[i], 1e-5 * (1 + std::abs(want[i])));
  }
  const auto got = gradients(deferred), want = gradients(plain);
  for (std::size_t i = 1; i < want.size(); ++i) expect_near(got[i], want[i]);
  auto scaled = want[0];
  for (std::size_t i = 0; i < scaled.size(); ++i) scaled[i] *= 0.75 * r[i / depth];
  expect_near(got[0], scaled);
}

TEST(QkvProduct, HeadWithoutGainGivesNoGradient) {
  const QkvGeometry g{{2, 1, 8}, 4, 1, 5};
  auto c = qkv_product_case(g, 12, {});
  c.inputs[2].generator = listed({1.5, 0.0});
  const auto all = gradients(c);
  EXPECT_NE(all[2][0], 0);
  EXPECT_EQ(all[2][1], 0);
  for (std::size_t i = 0; i < 32 * 12; ++i) {
    EXPECT_TRUE(std::isfinite(all[1][i]));
    EXPECT_TRUE(i / 12 / 8 != 1 || all[1][i] == 0) << i;  // the second head's rows of the weight
  }
}

TEST(QkvProduct, RejectsWrongShapes) {
  const HeadShape h{4, 2, 16};
  const Meta y{DType::f32, {1, 3, 20}}, w{DType::f32, {h.qkv_width(), 20}}, gain{DType::f32, {4}},
      rope{DType::f32, {3, 8}}, r{DType::f32, {1, 3}}, none;
  const QkvProduct op(h, 8, 1e-6f, false), deferred(h, 8, 1e-6f, false, 0.5f);
  EXPECT_EQ(op.infer(std::vector{y, w, gain, rope}).size(), 4u);
  EXPECT_EQ(deferred.infer(std::vector{none, w, gain, rope, none, none, none, none, y, r}).size(), 4u);
  EXPECT_THROW(op.infer(std::vector{y, Meta{DType::f32, {h.qkv_width() + 1, 20}}, gain, rope}), base::Error);
  EXPECT_THROW(op.infer(std::vector{y, w, gain, Meta{DType::f32, {2, 8}}}), base::Error);
  EXPECT_THROW(deferred.infer(std::vector{y, w, gain, rope}), base::Error);
  EXPECT_THROW(deferred.infer(std::vector{none, w, gain, rope, none, none, none, none, y, gain}),
               base::Error);
}

}  // namespace
}  // namespace fairway::ops
