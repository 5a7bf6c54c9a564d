// The fused products against the CPU, at odd numbers of rows and the widths that the kernel takes.
#include "fairway/ops/linear_square.h"

#include "ops/direct.h"

namespace fairway::ops {
namespace {

using namespace harness;

struct Sizes {
  std::int64_t m, n, k;
};

class SquareParity : public testing::TestWithParam<Sizes> {
 protected:
  void SetUp() override {
    if (const auto reason = gpu_missing(); !reason.empty()) GTEST_SKIP() << "needs a GPU: " << reason;
  }
};

TEST_P(SquareParity, LinearSquare) {
  const auto [m, n, k] = GetParam();
  const double scale = 1 / std::sqrt(static_cast<double>(k));
  auto c = op_case(fmt::format("linear_square {}x{}x{}", m, n, k), std::make_shared<LinearSquare>(0.5f),
                   {tensor_input({m, k}, normal()), tensor_input({n, k}, normal(scale))}, {0});
  EXPECT_EQ(check_cuda(c), "");
}

TEST_P(SquareParity, SquareLinearAdd) {
  const auto [m, n, k] = GetParam();
  const double scale = 1 / std::sqrt(static_cast<double>(k));
  auto c =
      op_case(fmt::format("square_linear_add {}x{}x{}", m, n, k), std::make_shared<SquareLinearAdd>(0.5f),
              {tensor_input({m, n}, normal()), tensor_input({m, n}, normal(), false),
               tensor_input({k, n}, normal(scale)), tensor_input({m, k}, normal())});
  c.in_place_rounds = true;  // as CudaParity.LinearAdd
  EXPECT_EQ(check_cuda(c), "");
}

TEST_P(SquareParity, ReluFromItsResult) {
  const auto [m, n, k] = GetParam();
  const double scale = 1 / std::sqrt(static_cast<double>(k));
  auto relu = [](const base::Random& r, std::uint64_t i) { return std::pow(std::max(0.0, r.normal(i)), 2); };
  EXPECT_EQ(check_cuda(op_case(fmt::format("relu square_linear_backward {}x{}x{}", m, n, k),
                               std::make_shared<SquareLinearBackward>(0.0f, 1.0f, true),
                               {tensor_input({m, k}, normal()), tensor_input({k, n}, normal(scale)),
                                tensor_input({m, n}, relu)})),
            "");
}

TEST_P(SquareParity, DeferredNorm) {
  const auto [m, n, k] = GetParam();
  const double scale = 1 / std::sqrt(static_cast<double>(k));
  const InputSpec r = tensor_input({m}, uniform(0.5, 2), false);
  const auto forward = op_case(
      fmt::format("deferred linear_square {}x{}x{}", m, n, k), std::make_shared<LinearSquare>(0.5f, 0.7f),
      {absent_input(), tensor_input({n, k}, normal(scale), false), tensor_input({m, k}, normal(), false), r},
      {0});
  EXPECT_EQ(check_cuda(forward), "");
  const auto backward = op_case(fmt::format("square_linear_backward with r {}x{}x{}", m, n, k),
                                std::make_shared<SquareLinearBackward>(0.5f, 0.7f),
                                {tensor_input({m, k}, normal()), tensor_input({k, n}, normal(scale)),
                                 tensor_input({m, n}, normal()), r});
  EXPECT_EQ(check_cuda(backward), "");
}

// Rows: less than a tile, a rest, more tiles than blocks. Then: one slice (no cluster), three slices, sums of
// 1, 3 and 4 steps, and a width that the kernel leaves to its parts.
INSTANTIATE_TEST_SUITE_P(Shapes, SquareParity,
                         testing::Values(Sizes{1, 1536, 512}, Sizes{130, 1536, 512}, Sizes{300, 1536, 512},
                                         Sizes{1501, 1536, 512}, Sizes{9000, 128, 64}, Sizes{77, 384, 192},
                                         Sizes{1000, 256, 256}, Sizes{33, 96, 72}));

}  // namespace
}  // namespace fairway::ops
