#include "fairway/ops/residual.h"

#include <cmath>

#include "ops/direct.h"

namespace fairway::ops {
namespace {

using namespace harness;

TEST(ScaledResidual, AllChecks) {
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 65}, Shape{2, 70, 33}})
    for (const std::int64_t channels : {shape.columns(), std::int64_t{1}}) {
      auto c = op_case(
          fmt::format("scaled_residual {} s[{}]", shape.str(), channels), std::make_shared<ScaledResidual>(),
          {tensor_input(shape, normal()), tensor_input(shape, normal()), tensor_input({channels}, normal())});
      c.add_outputs = {0};
      c.rejects = {{{DType::f32, shape}, {DType::f32, shape}, {DType::f32, {2, 2}}}};
      EXPECT_EQ(run_all_checks(c), "");
    }
}

TEST(Add, AllChecks) {
  for (const Shape& shape : {Shape{1}, Shape{3, 65}, Shape{5, 7, 1001}}) {
    auto c = op_case("add " + shape.str(), std::make_shared<Add>(),
                     {tensor_input(shape, normal()), tensor_input(shape, normal())});
    c.add_outputs = {0};
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(Copy, AllChecks) {
  for (const Shape& shape : {Shape{1}, Shape{3, 65}, Shape{5, 7, 1001}}) {
    auto c = op_case("copy " + shape.str(), std::make_shared<Copy>(), {tensor_input(shape, normal(), false)});
    c.add_outputs = {0};
    EXPECT_EQ(run_all_checks(c), "");
  }
  const auto c = op_case("", std::make_shared<Copy>(), {index_input({3}, listed({-7, 2147483647, 0}))});
  EXPECT_EQ(output_values(c), (std::vector<double>{-7, 2147483647, 0}));
}

TEST(Smear, AllChecks) {
  for (const Shape& shape :
       {Shape{1, 1, 1}, Shape{3, 1, 17}, Shape{2, 7, 33}, Shape{3, 50, 65}, Shape{1, 3, 1025}})
    for (bool carried : {false, true}) {
      auto c = op_case(fmt::format("smear {} {}", shape.str(), carried ? "with previous" : ""),
                       std::make_shared<Smear>(),
                       {tensor_input(shape, normal()), tensor_input({shape[2]}, normal())});
      if (carried) c.inputs.push_back(tensor_input({shape[0], shape[2]}, normal(), false));
      c.add_outputs = {0};
      c.rejects = {{{DType::f32, {3, 4}}, {DType::f32, {4}}}};
      EXPECT_EQ(run_all_checks(c), "");
    }
}

TEST(Smear, RowsDoNotMeetAndPreviousStandsBeforeThem) {
  // gamma 0: half and half. Rows (1, 2) and (10, 20).
  const auto x = tensor_input({2, 2, 1}, listed({1, 2, 10, 20})), gamma = tensor_input({1}, constant(0));
  EXPECT_EQ(output_values(op_case("", std::make_shared<Smear>(), {x, gamma})),
            (std::vector<double>{0.5, 1.5, 5, 15}));
  EXPECT_EQ(
      output_values(op_case("", std::make_shared<Smear>(), {x, gamma, tensor_input({2, 1}, listed({4, 8}))})),
      (std::vector<double>{2.5, 1.5, 9, 15}));
}

TEST(Smear, PiecesGiveTheWholeWindow) {
  // Scoring carries the last position of one piece into the next: the same bits as in one go.
  const auto gamma = tensor_input({40}, normal());
  const base::Random random(1, "row");
  const auto row = [&](std::int64_t first, std::int64_t n) {
    std::vector<double> values;
    for (auto i = first * 40; i < (first + n) * 40; ++i)
      values.push_back(static_cast<float>(random.normal(static_cast<std::uint64_t>(i))));
    return values;
  };
  const auto whole = output_values(
      op_case("", std::make_shared<Smear>(), {tensor_input({1, 6, 40}, listed(row(0, 6))), gamma}));
  const auto rest = output_values(op_case(
      "", std::make_shared<Smear>(),
      {tensor_input({1, 2, 40}, listed(row(4, 2))), gamma, tensor_input({1, 40}, listed(row(3, 1)))}));
  EXPECT_EQ(std::vector<double>(whole.begin() + 4 * 40, whole.end()), rest);
}

TEST(TakeLast, AllChecks) {
  for (const Shape& shape : {Shape{1, 1, 1}, Shape{2, 7, 33}, Shape{3, 64, 65}})
    for (const auto n : {std::int64_t{1}, shape[1]}) {
      auto c = op_case(fmt::format("take_last {} of {}", n, shape.str()),
                       std::make_shared<TakeLast>(static_cast<int>(n)), {tensor_input(shape, normal())});
      c.add_outputs = {0};
      c.rejects = {{{DType::f32, {3, 4}}}};
      if (shape[1] > 1) c.rejects.push_back({{DType::f32, {shape[0], n - 1, shape[2]}}});
      EXPECT_EQ(run_all_checks(c), "");
    }
}

TEST(TakeLast, Values) {
  const auto c =
      op_case("", std::make_shared<TakeLast>(2), {tensor_input({2, 3, 1}, listed({1, 2, 3, 4, 5, 6}))});
  EXPECT_EQ(output_values(c), (std::vector<double>{2, 3, 5, 6}));
}

}  // namespace
}  // namespace fairway::ops
