// Fused kernels by themselves: each output alone is the same bytes, and sums of squares are those of what
// was stored. No library's product runs in here, so that compute-sanitizer can watch our kernels at its
// speed.
#include "fairway/ops/linear_relu_squared.h"
#include "fairway/ops/matmul.h"
#include "ops/norm_cases.h"
#include "ops/qkv_cases.h"

namespace fairway::ops {
namespace {

using namespace harness;

class FusedAlone : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = gpu_missing(); !reason.empty()) GTEST_SKIP() << "needs a GPU: " << reason;
    gpu_.emplace(tensor::Device{tensor::DeviceKind::cuda, 0});
  }
  Setting there() { return {false, {}, nullptr, &*gpu_}; }

  /// Each output that is wanted alone against all of them together.
  void expect_each_alone(const OpCase& c, const Operator& op, const std::vector<View>& in) {
    std::string problem;
    const Blocks all = execute(c, there(), {op, in, {}, {}, {}}, problem);
    for (std::size_t k = 0; k < all.size(); ++k) {
      std::vector<bool> wanted(all.size(), false);
      wanted[k] = true;
      const Blocks one = execute(c, there(), {op, in, wanted, {}, {}}, problem);
      EXPECT_TRUE(one[k].same_bytes(all[k])) << op.name() << " output " << k;
    }
    EXPECT_EQ(problem, "");
  }

  void expect_the_same_twice(const OpCase& c) {
    std::string problem;
    const Forward f = run_forward(c, there(), none, problem), same = run_forward(c, there(), none, problem);
    for (std::size_t k = 0; k < f.out.size(); ++k)
      EXPECT_TRUE(same.out[k].same_bytes(f.out[k])) << c.name << " output " << k;
    for (const auto& step : c.op->backward()) {
      if (!step.op) continue;
      const auto in = gather_reads(f, step);
      const Blocks once = execute(c, there(), {*step.op, in, {}, {}, {}}, problem);
      const Blocks again = execute(c, there(), {*step.op, in, {}, {}, {}}, problem);
      for (std::size_t k = 0; k < once.size(); ++k)
        EXPECT_TRUE(again[k].same_bytes(once[k])) << c.name << " " << step.op->name() << " output " << k;
    }
    EXPECT_EQ(problem, "");
  }

  std::optional<cuda::State> gpu_;
};

TEST_F(FusedAlone, QkvProductAndItsBackward) {
  for (const bool deferred : {false, true}) {
    const auto c = *bf16_form(qkv_product_case({{8, 4, 64}, 16, 2, 65}, 512, {true, false, deferred}));
    std::string problem;
    const Forward f = run_forward(c, there(), none, problem);
    EXPECT_EQ(problem, "");
    expect_each_alone(c, *c.op, views(f.in));
    const auto steps = c.op->backward();
    ASSERT_TRUE(steps.front().op);
    expect_each_alone(c, *steps.front().op, gather_reads(f, steps.front()));
  }
}

// A length of rows for each form of the kernels: rows in registers, two lengths, and rows of any length.
constexpr std::int64_t lengths[] = {512, 1024, 70};

TEST_F(FusedAlone, MixNormsAndTheirBackwardTwice) {
  for (const auto columns : lengths)
    for (const bool deferred : {false, true})
      for (const bool skip : {false, true}) {
        const auto c = mix_case({37, columns}, deferred, skip);
        expect_the_same_twice(c);
        expect_the_same_twice(*bf16_form(c));
      }
}

TEST_F(FusedAlone, NormsAndTheirBackwardTwice) {
  for (const auto columns : lengths) {
    const InputSpec x = tensor_input({37, columns}, normal(2)), scale = channels({columns});
    for (const auto& c :
         {op_case("rms_norm", std::make_shared<RmsNorm>(0.7f, eps), {x}, {1}),
          op_case("deferred", std::make_shared<RmsNorm>(0.7f, eps, true), {x}, {1}),
          op_case("residual_norm", std::make_shared<ResidualNorm>(0.5f, eps), {x, x, scale}, {2})}) {
      expect_the_same_twice(c);
      expect_the_same_twice(*bf16_form(c));
    }
  }
}

TEST_F(FusedAlone, LinearReluSquaredAndItsBackward) {
  const std::int64_t m = 130, n = 384, k = 512;
  const InputSpec x = tensor_input({m, k}, normal()), w = tensor_input({n, k}, normal(0.05)),
                  back = tensor_input({k, n}, normal(0.05)), h = tensor_input({m, n}, normal()),
                  act = tensor_input({m, n}, uniform(0, 2)), r = tensor_input({m}, uniform(0.5, 2), false);
  const auto alone = [&](const OpCase& wide) {
    const auto c = *bf16_form(wide);
    const Blocks in = make_inputs(c, false);
    expect_each_alone(c, *c.op, views(in));
  };
  // h is left out where backward rebuilds the activation alone.
  alone(op_case("", std::make_shared<LinearReluSquared>(0.5f), {x, w}));
  alone(op_case("", std::make_shared<LinearReluSquared>(0.5f, 0.7f), {absent_input(), w, x, r}));
  alone(op_case("", std::make_shared<ReluSquaredLinearBackward>(0.5f), {x, back, h}));
  alone(op_case("", std::make_shared<ReluSquaredLinearBackward>(0.5f, 0.7f), {x, back, h, r}));
  alone(op_case("", std::make_shared<ReluSquaredLinearBackward>(0.0f, 1.0f, true), {x, back, act}));
}

TEST_F(FusedAlone, LinearAddAndItsSquares) {
  const auto c =
      *bf16_form(op_case("", std::make_shared<LinearAdd>(true),
                         {tensor_input({130, 512}, normal()), tensor_input({256, 512}, normal(0.05)),
                          tensor_input({130, 256}, normal())}));
  std::string problem;
  const Blocks in = make_inputs(c, false);
  const Blocks out = execute(c, there(), {*c.op, views(in), {}, {}, {}}, problem);
  const Blocks plain = execute(c, there(), {*c.op, views(in), {true, false}, {}, {}}, problem);
  EXPECT_EQ(problem, "");
  EXPECT_TRUE(plain[0].same_bytes(out[0]));
  const auto y = out[0].values(), squares = out[1].values();
  ASSERT_EQ(squares.size(), 130u * 2);
  for (std::size_t i = 0; i < squares.size(); ++i) {
    double sum = 0;
    for (std::size_t j = 0; j < squares_width; ++j) sum += std::pow(y[i * squares_width + j], 2);
    EXPECT_NEAR(squares[i], sum, 1e-5 * sum) << i;
  }
}

}  // namespace
}  // namespace fairway::ops
