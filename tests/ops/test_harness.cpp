// The harness must find what it is made for: operators that are wrong in one way each. They borrow kernels
// that read no attributes.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cmath>
#include <limits>

#include "fairway/ops/matmul.h"
#include "fairway/ops/residual.h"
#include "ops/harness_run.h"

namespace fairway::ops {
namespace {

using namespace harness;
using testing::HasSubstr;

/// y = a + b with a backward of the test's choice.
class AddWith final : public Operator {
 public:
  explicit AddWith(std::vector<BackwardStep> steps) : steps_(std::move(steps)) {}
  std::string_view name() const override { return "add"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override { return Add().infer(in); }
  std::vector<BackwardStep> backward() const override { return steps_; }

 private:
  std::vector<BackwardStep> steps_;
};

std::string gradient_of_sum(std::vector<BackwardStep> steps) {
  OpCase c{.name = "sum", .op = std::make_shared<AddWith>(std::move(steps))};
  c.inputs = {tensor_input({3, 7}, normal()), tensor_input({3, 7}, normal())};
  return check_gradient(c);
}

TEST(Harness, FindsWrongGradients) {
  const BackwardStep first{nullptr, {grad(0)}, {0}}, second{nullptr, {grad(0)}, {1}};
  EXPECT_EQ(gradient_of_sum({first, second}), "");
  EXPECT_THAT(gradient_of_sum({first}), HasSubstr("input 1 element 0"));
  EXPECT_THAT(gradient_of_sum({first, first, second}), HasSubstr("input 0 element 0"));
  EXPECT_THAT(gradient_of_sum({}), HasSubstr("backward() is empty"));
}

/// Takes whatever it is given.
class Unchecked final : public Operator {
 public:
  std::string_view name() const override { return "copy"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override {
    return {in.empty() ? Meta{DType::f32, {1}} : in[0]};
  }
};

TEST(Harness, FindsMissingShapeRules) {
  OpCase c{.name = "unchecked", .op = std::make_shared<Unchecked>()};
  c.inputs = {tensor_input({3, 7}, normal(), false)};
  EXPECT_THAT(check_infer(c), HasSubstr("accepts an empty input list"));
  EXPECT_THAT(check_infer(c), HasSubstr("accepts input 0 as u8"));
  c.rejects = {{{DType::f32, {2}}}};
  EXPECT_THAT(check_infer(c), HasSubstr("accepts rejects[0]"));
}

/// Claims that it may overwrite its input, which it still reads one position later.
class SmearInPlace final : public Operator {
 public:
  std::string_view name() const override { return "smear"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override { return Smear().infer(in); }
  std::vector<InPlace> in_place() const override { return {{0, 0}}; }
};

TEST(Harness, FindsClobberedInputs) {
  OpCase c{.name = "smear", .op = std::make_shared<SmearInPlace>()};
  c.inputs = {tensor_input({2, 9, 33}, normal(), false), tensor_input({33}, normal(), false)};
  EXPECT_THAT(check_precision(c), HasSubstr("in place of input 0"));
}

TEST(Harness, NotANumberAndInfinityAreNeverWithinATolerance) {
  const double nan = std::nan(""), inf = std::numeric_limits<double>::infinity();
  const std::vector<double> want = {1, -2, 3};
  const auto said = [&](std::vector<double> got, std::vector<double> reference) {
    std::string problems;
    compare(problems, "x", got, reference, 1e9, 1e9);
    return problems;
  };
  EXPECT_EQ(said({1, -2, 3.5}, want), "");
  EXPECT_EQ(said({}, {}), "");
  EXPECT_THAT(said({1, 2}, want), HasSubstr("sizes differ"));
  for (const double bad : {nan, inf, -inf})
    for (std::size_t i = 0; i < 3; ++i) {
      auto other = want;
      other[i] = bad;
      EXPECT_THAT(said(other, want), HasSubstr("x: ")) << bad << " at " << i;
      EXPECT_THAT(said(want, other), HasSubstr("not finite")) << bad << " at " << i;
      EXPECT_THAT(said(other, other), HasSubstr("not finite")) << bad << " at " << i;
    }
}

TEST(Harness, FindsLostPrecision) {
  OpCase c{.name = "matmul", .op = std::make_shared<Matmul>(false, false)};
  c.inputs = {tensor_input({33, 65}, normal()), tensor_input({65, 7}, normal())};
  EXPECT_EQ(check_precision(c), "");
  c.products = DType::bf16;  // errors of 2^-9 against a tolerance of 2e-5
  EXPECT_THAT(check_precision(c), HasSubstr("times the tolerance"));
}

}  // namespace
}  // namespace fairway::ops
