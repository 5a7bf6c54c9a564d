// The fused query/key/value product against the CPU and against its parts, at odd numbers of rows and the
// heads that the kernel takes.
#include "ops/qkv_cases.h"

namespace fairway::ops {
namespace {

using namespace harness;

struct Sizes {
  QkvGeometry geometry;
  std::int64_t depth;
};

class QkvParity : public testing::TestWithParam<Sizes> {
 protected:
  void SetUp() override {
    if (const auto reason = gpu_missing(); !reason.empty()) GTEST_SKIP() << "needs a GPU: " << reason;
  }
};

TEST_P(QkvParity, AllForms) {
  const auto& [g, depth] = GetParam();
  for (const bool ve : {false, true})
    for (const bool deferred : {false, true})
      EXPECT_EQ(check_cuda(qkv_product_case(g, depth, {ve, false, deferred})), "");
}

/// With an offset the product runs by parts.
TEST_P(QkvParity, PartsWithOffset) {
  const auto& [g, depth] = GetParam();
  auto c = qkv_product_case(g, depth, {true, true, false});
  c.norm_tolerance =
      3e-2;  // a gain's gradient is a sum over q as rounded, which nearly cancels in short texts
  EXPECT_EQ(check_cuda(c), "");
}

TEST_P(QkvParity, FusedAndPartsAgree) {
  const auto& [g, depth] = GetParam();
  cuda::State gpu({tensor::DeviceKind::cuda, 0});
  const Setting there{false, {}, nullptr, &gpu};
  for (const bool deferred : {false, true}) {
    auto c = *bf16_form(qkv_product_case(g, depth, {true, false, deferred}));
    std::string problem;
    const Blocks fused = execute(c, there, {*c.op, views(make_inputs(c, false)), {}, {}, {}}, problem);
    const auto values = input_values(c);
    for (std::size_t i = 0; i < c.inputs.size(); ++i)
      if (c.inputs[i].generator) c.inputs[i].generator = listed(values[i]);
    c.inputs[4] = index_input({g.batch}, constant(0));
    const Blocks parts = execute(c, there, {*c.op, views(make_inputs(c, false)), {}, {}, {}}, problem);
    EXPECT_EQ(problem, "");
    for (std::size_t k = 0; k < 4; ++k) {
      const auto a = fused[k].values(), b = parts[k].values();
      for (std::size_t i = 0; i < a.size(); ++i)  // both round once more than the other does
        ASSERT_NEAR(a[i], b[i], 0.02 * (std::abs(b[i]) + 1)) << "output " << k << " element " << i;
    }
  }
}

// Rows: less than a tile, a rest, tiles that begin within a window, more tiles than blocks. Every number of
// turned columns; sums of 1, 3, 7 and 8 steps; then heads and sums that the kernel leaves to its parts.
INSTANTIATE_TEST_SUITE_P(
    Shapes, QkvParity,
    testing::Values(Sizes{{{8, 4, 64}, 16, 1, 1}, 512}, Sizes{{{8, 4, 64}, 16, 7, 9}, 512},
                    Sizes{{{2, 2, 64}, 0, 1, 65}, 64}, Sizes{{{4, 2, 64}, 32, 5, 200}, 192},
                    Sizes{{{6, 2, 64}, 64, 4, 250}, 448}, Sizes{{{2, 2, 64}, 16, 3, 3001}, 64},
                    Sizes{{{3, 1, 64}, 16, 2, 33}, 128}, Sizes{{{4, 2, 64}, 8, 2, 33}, 128},
                    Sizes{{{2, 2, 64}, 16, 2, 33}, 72}));

}  // namespace
}  // namespace fairway::ops
