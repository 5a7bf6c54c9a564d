#include "ops/qkv_cases.h"

namespace fairway::ops {
namespace {

using namespace harness;

constexpr float eps = 0x1p-23f;

OpCase prepare(const QkvGeometry& g, bool value_embedding, bool offset) {
  const auto& h = g.heads;
  auto c = op_case(
      fmt::format("qkv_prepare H{} Hkv{} dh{} rope{} B{} S{}{}{}", h.heads, h.kv_heads, h.head_dim,
                  g.rope_dims, g.batch, g.length, value_embedding ? " ve" : "", offset ? " offset" : ""),
      std::make_shared<QkvPrepare>(h, g.rope_dims, eps, value_embedding),
      {tensor_input({g.batch, g.length, h.qkv_width()}, normal()), tensor_input({h.heads}, normal(0.2, 1.5)),
       tensor_input({g.length + 9, g.rope_dims}, listed(rope_table(g.length + 9, g.rope_dims)), false)},
      {3});
  c.inputs.push_back(offset ? index_input({g.batch}, integers(0, 10)) : absent_input());
  for (const Shape& shape : {Shape{g.batch, g.length, h.kv_width()}, Shape{1}, Shape{1}})
    c.inputs.push_back(value_embedding ? tensor_input(shape, normal()) : absent_input());
  c.add_outputs = {0, 1, 2};
  return c;
}

TEST(QkvPrepare, AllChecks) {
  for (const auto& g : {QkvGeometry{{1, 1, 2}, 2, 1, 1},
                        {{4, 2, 16}, 4, 2, 5},
                        {{2, 2, 33}, 8, 1, 7},
                        {{6, 2, 24}, 24, 3, 3}})
    for (bool ve : {false, true})
      for (bool offset : {false, true}) EXPECT_EQ(run_all_checks(prepare(g, ve, offset)), "");
}

TEST(QkvPrepare, ModelGeometry) {
  auto c = prepare({{8, 4, 64}, 16, 2, 131}, true, true);
  c.tolerance = 1e-4;
  EXPECT_EQ(check_precision(c), "");
  EXPECT_EQ(check_threads(c), "");
}

TEST(QkvPrepare, RejectsWrongShapes) {
  const HeadShape h{4, 2, 16};
  const Meta qkv{DType::f32, {1, 3, h.qkv_width()}}, gain{DType::f32, {4}}, rope{DType::f32, {3, 8}}, none;
  const Meta ve{DType::f32, {1, 3, 32}}, one{DType::f32, {1}};
  const QkvPrepare op(h, 8, eps, false), with(h, 8, eps, true);
  EXPECT_EQ(op.infer(std::vector{qkv, gain, rope}).size(), 4u);
  EXPECT_EQ(with.infer(std::vector{qkv, gain, rope, none, ve, one, one}).size(), 4u);
  EXPECT_THROW(op.infer(std::vector{qkv, gain, Meta{DType::f32, {2, 8}}}), base::Error);
  EXPECT_THROW(op.infer(std::vector{qkv, gain, rope, none, ve, one, one}), base::Error);
  EXPECT_THROW(with.infer(std::vector{qkv, gain, rope}), base::Error);
  EXPECT_THROW(QkvPrepare({3, 2, 16}, 8, eps, false).infer(std::vector{qkv, gain, rope}), base::Error);
  EXPECT_THROW(QkvPrepare(h, 7, eps, false).infer(std::vector{qkv, gain, rope}), base::Error);
}

TEST(QkvPrepare, ValuesByTheFormula) {
  // One query head and one key head of 4 columns, the first two turned; position 1 + 2 by the offset.
  const double angle = 3.0;
  const std::vector<double> raw = {3, 4, 0, 1, 1, 2, 2, 4, 5, 6, 7, 8};
  std::vector<double> rope(4 * 2, 0.0);
  rope[6] = std::cos(angle);
  rope[7] = std::sin(angle);
  std::vector<double> two_positions(12, 1.0);
  two_positions.insert(two_positions.end(), raw.begin(), raw.end());
  auto c = op_case("", std::make_shared<QkvPrepare>(HeadShape{1, 1, 4}, 2, 0.0f, true),
                   {tensor_input({1, 2, 12}, listed(two_positions)), tensor_input({1}, constant(1.5)),
                    tensor_input({4, 2}, listed(rope), false), index_input({1}, constant(2)),
                    tensor_input({1, 2, 4}, constant(10)), tensor_input({1}, constant(0.5)),
                    tensor_input({1}, constant(4))},
                   {3});
  const auto q = output_values(c, 0), k = output_values(c, 1), v = output_values(c, 2),
             r = output_values(c, 3);
  const double rq = 1 / std::sqrt(26 / 4.0), rk = 1 / std::sqrt(25 / 4.0), co = std::cos(angle),
               si = std::sin(angle);
  const auto near = [](double got, double want) { EXPECT_NEAR(got, want, 1e-6); };
  near(r[2], rq), near(r[3], rk);
  near(q[4], 1.5 * rq * (3 * co + 4 * si)), near(q[5], 1.5 * rq * (4 * co - 3 * si)), near(q[6], 0),
      near(q[7], 1.5 * rq);
  near(k[4], rk * (1 * co + 2 * si)), near(k[5], rk * (2 * co - 1 * si)), near(k[6], rk * 2),
      near(k[7], rk * 4);
  for (std::size_t i = 0; i < 4; ++i) near(v[4 + i], raw[8 + i] + 4 * 0.5 * 10);
}

TEST(QkvPrepare, OffsetsShiftPositionsAndAreChecked) {
  // Row b of a batch at offset o equals the later part of a longer row.
  const HeadShape h{2, 1, 8};
  const auto width = h.qkv_width();
  const auto table = tensor_input({8, 4}, listed(rope_table(8, 4)), false);
  const auto op = std::make_shared<QkvPrepare>(h, 4, eps, false);
  const base::Random random(3, "rows");
  std::vector<double> row;
  for (std::int64_t i = 0; i < 8 * width; ++i)
    row.push_back(static_cast<float>(random.normal(static_cast<std::uint64_t>(i))));
  const std::vector<double> tail(row.begin() + 5 * width, row.end());
  const auto gain = tensor_input({2}, constant(1.5));
  const auto whole = output_values(op_case("", op, {tensor_input({1, 8, width}, listed(row)), gain, table}));
  const auto part = output_values(op_case(
      "", op, {tensor_input({1, 3, width}, listed(tail)), gain, table, index_input({1}, constant(5))}));
  EXPECT_EQ(std::vector<double>(whole.begin() + 5 * 16, whole.end()), part);
  for (double offset : {-1.0, 6.0})
    EXPECT_THROW(output_values(op_case("", op,
                                       {tensor_input({1, 3, width}, listed(tail)), gain, table,
                                        index_input({1}, constant(offset))})),
                 base::Error);
}

}  // namespace
}  // namespace fairway::ops
