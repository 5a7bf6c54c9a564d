#include "fairway/ops/activation.h"
#include "fairway/ops/attention.h"
#include "fairway/ops/embedding.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/norm.h"
#include "ops/direct.h"

namespace fairway::ops {
namespace {

using namespace harness;

Meta bf16(Shape shape) { return {DType::bf16, shape}; }

TEST(Dtypes, NarrowActivationsKeepWideSums) {
  const Meta x = bf16({2, 8}), s{DType::f32, {8}};
  const auto out = ResidualNorm(1.0f, 1e-6f).infer(std::vector{x, x, s});
  EXPECT_EQ(out, (std::vector<Meta>{x, x, {DType::f32, {2}}}));
  EXPECT_THROW(ResidualNorm(1.0f, 1e-6f).infer(std::vector{x, x, bf16({8})}), base::Error);
  EXPECT_EQ(Matmul(false, true).infer(std::vector{x, x})[0], bf16({2, 2}));
  EXPECT_EQ(Matmul(false, true, ProductResult::wide).infer(std::vector{x, x})[0], (Meta{DType::f32, {2, 2}}));
  const Meta table{DType::f32, {4, 8}}, index{DType::i32, {3}};
  EXPECT_EQ(Gather(DType::bf16).infer(std::vector{table, index})[0], bf16({3, 8}));
  EXPECT_EQ(GatherBackward().infer(std::vector{table, index, bf16({3, 8})})[0], table);
}

TEST(Dtypes, CpuKernelsRefuseBf16) {
  const auto refused = [](OperatorPtr op, std::vector<InputSpec> inputs) {
    const auto c = op_case("", std::move(op), std::move(inputs));
    const auto narrow = bf16_form(c);
    ASSERT_TRUE(narrow);
    try {
      output_values(*narrow);
      FAIL() << c.op->name() << " ran";
    } catch (const base::Error& e) {
      EXPECT_NE(std::string(e.what()).find("bf16"), std::string::npos) << e.what();
    }
  };
  const Shape x{2, 8}, head{1, 3, 1, 64};
  refused(std::make_shared<RmsNorm>(1.0f, 1e-6f), {tensor_input(x, normal())});
  refused(std::make_shared<LeakyReluSquared>(0.5f), {tensor_input(x, normal())});
  refused(std::make_shared<Matmul>(false, true), {tensor_input(x, normal()), tensor_input(x, normal())});
  refused(std::make_shared<Gather>(), {tensor_input(x, normal()), index_input({3}, constant(1))});
  refused(std::make_shared<Attention>(HeadShape{1, 1, 64}),
          {tensor_input(head, normal()), tensor_input(head, normal()), tensor_input(head, normal())});
}

}  // namespace
}  // namespace fairway::ops
