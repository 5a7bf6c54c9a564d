#include "fairway/ops/activation.h"

#include <limits>

#include "ops/direct.h"

namespace fairway::ops {
namespace {

using namespace harness;

TEST(LeakyReluSquared, AllChecks) {
  for (float slope : {0.0f, 0.5f})
    for (const Shape& shape : {Shape{1}, Shape{3, 65}, Shape{2, 33, 513}}) {
      auto c = op_case(fmt::format("leaky_relu_squared {} {}", slope, shape.str()),
                       std::make_shared<LeakyReluSquared>(slope), {tensor_input(shape, normal())});
      c.add_outputs = {0};
      EXPECT_EQ(run_all_checks(c), "");
    }
}

TEST(LeakyReluSquared, Values) {
  const auto inputs = std::vector{tensor_input({6}, listed({2, -2, 0, -0.5, 1e-3, -3}))};
  EXPECT_EQ(output_values(op_case("", std::make_shared<LeakyReluSquared>(0.5f), inputs)),
            (std::vector<double>{4, 1, 0, 0.0625, static_cast<float>(1e-3f * 1e-3f), 2.25}));
  EXPECT_EQ(output_values(op_case("", std::make_shared<LeakyReluSquared>(0.0f), inputs)),
            (std::vector<double>{4, 0, 0, 0, static_cast<float>(1e-3f * 1e-3f), 0}));
}

TEST(LeakyReluSquared, NotANumberPasses) {
  const auto y =
      output_values(op_case("", std::make_shared<LeakyReluSquared>(0.5f),
                            {tensor_input({2}, listed({std::numeric_limits<double>::quiet_NaN(), 1}))}));
  EXPECT_TRUE(std::isnan(y[0]));
}

}  // namespace
}  // namespace fairway::ops
