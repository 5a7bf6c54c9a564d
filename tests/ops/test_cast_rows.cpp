#include "fairway/ops/cast_rows.h"

#include <cmath>

#include "ops/direct.h"

namespace fairway::ops {
namespace {

using namespace harness;

TEST(CastRows, AllChecks) {
  for (int q : {31, 15})
    for (const Shape& shape : {Shape{1, 1}, Shape{7, 65}, Shape{64, 512}}) {
      auto c = op_case(fmt::format("cast_rows {} {}", q, shape.str()), std::make_shared<CastRows>(q),
                       {tensor_input(shape, normal(0.3)), absent_input()});
      c.add_outputs = {0};
      c.finite_differences = false;  // straight through: the step function's own gradient is zero
      // A weight within rounding of a step may fall to either side in f64: compare on values that stay clear.
      c.inputs[0].generator = [](const base::Random& r, std::uint64_t i) {
        return i % 64 == 0 ? 1.24 : std::round(r.normal(i) * 8) * 0.04 + 0.001;
      };
      EXPECT_EQ(run_all_checks(c), "");
    }
}

TEST(CastRows, FoldedScaleAllChecks) {
  for (const Shape& shape : {Shape{1, 1}, Shape{7, 65}, Shape{64, 512}}) {
    const auto c = op_case("cast_rows folded " + shape.str(), std::make_shared<CastRows>(0),
                           {tensor_input(shape, normal(0.3)), tensor_input({shape[0]}, normal(0.5, 1.0))});
    EXPECT_EQ(run_all_checks(c), "");  // q = 0: differentiable, so finite differences hold
  }
}

TEST(CastRows, FollowsTheFormulaBitByBit) {
  const auto c =
      op_case("", std::make_shared<CastRows>(31), {tensor_input({50, 129}, normal(1.5)), absent_input()});
  const auto w = input_values(c)[0];
  for (int isa = 0; isa <= static_cast<int>(base::best_isa()); ++isa) {
    const auto y = output_values(c, 0, static_cast<base::Isa>(isa));
    for (std::size_t row = 0; row < 50; ++row) {
      float greatest = 0;
      for (std::size_t i = 0; i < 129; ++i)
        greatest = std::max(greatest, std::abs(static_cast<float>(w[row * 129 + i])));
      const float scale = std::max(greatest / 31.0f, 1.0f / 31.0f);
      for (std::size_t i = 0; i < 129; ++i) {
        const float level = std::nearbyint(static_cast<float>(w[row * 129 + i]) / scale);
        ASSERT_EQ(y[row * 129 + i], scale * std::min(31.0f, std::max(-32.0f, level)));
      }
    }
  }
}

TEST(CastRows, SmallRowsUseTheLeastScaleAndTiesGoToEven) {
  // All weights small: the scale is 1/q, not max/q; 0.5/31 lies between two levels and goes to the even one.
  const double s = 1.0f / 31.0f;
  const auto y = output_values(
      op_case("", std::make_shared<CastRows>(31),
              {tensor_input({1, 4}, listed({0.5 * s, 1.5 * s, -2.5 * s, 0.9 * s})), absent_input()}));
  EXPECT_EQ(y[0], 0);
  EXPECT_EQ(y[1], 2 * s);
  EXPECT_EQ(y[2], -2 * s);
  EXPECT_EQ(y[3], s);
}

}  // namespace
}  // namespace fairway::ops
