#include <cmath>

#include "fairway/ops/activation.h"
#include "fairway/ops/attention.h"
#include "fairway/ops/cast_rows.h"
#include "fairway/ops/cross_entropy.h"
#include "fairway/ops/embedding.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/memory_tokens.h"
#include "fairway/ops/residual.h"
#include "fairway/tensor/cuda.h"
#include "ops/gate_cases.h"
#include "ops/norm_cases.h"
#include "ops/qkv_cases.h"

namespace fairway::ops {
namespace {

using namespace harness;

/// Skips where there is no GPU, and says why.
class CudaParity : public testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = gpu_missing(); !reason.empty()) GTEST_SKIP() << "needs a GPU: " << reason;
  }
};

TEST(CudaKernels, EveryOperatorHasOne) {
  if (!tensor::cuda_compiled_in()) GTEST_SKIP() << "needs a build with the CUDA backend (FAIRWAY_CUDA=ON)";
  for (const auto name : cpu_kernel_names())
    EXPECT_NE(find_kernel(name, {tensor::DeviceKind::cuda, 0}, base::Isa::scalar), nullptr) << name;
}

TEST_F(CudaParity, Norms) {
  // 512 and 1024: rows in registers; 768 and 520 with idle lanes; 1032: read twice; 300 rows: several per
  // piece.
  for (const Shape& x :
       {Shape{300, 512}, Shape{2, 70, 768}, Shape{67, 520}, Shape{33, 1024}, Shape{40, 1032}}) {
    const auto d = x.columns();
    auto rms = op_case("rms_norm " + x.str(), std::make_shared<RmsNorm>(0.7f, eps),
                       {tensor_input(x, normal(2))}, {1});
    auto deferred = rms;
    deferred.name += " deferred";
    deferred.op = std::make_shared<RmsNorm>(0.7f, eps, true);
    auto residual = op_case(
        "residual_norm " + x.str(), std::make_shared<ResidualNorm>(0.5f, eps),
        {tensor_input(x, normal()), tensor_input(x, normal()), tensor_input({d}, normal(0.5, 1))}, {2});
    residual.add_outputs = {0, 1};
    for (const auto& c : {rms, deferred, residual}) EXPECT_EQ(check_cuda(c), "");
  }
}

TEST_F(CudaParity, MixNorms) {
  // As above; 1,700 rows are more than one round of all blocks' warps (132 blocks of 12 at most).
  for (const Shape& x : {Shape{300, 512}, Shape{1700, 512}, Shape{2, 70, 768}, Shape{67, 520},
                         Shape{33, 1024}, Shape{40, 1032}})
    for (const bool deferred : {false, true})
      for (const bool skip : {false, true}) EXPECT_EQ(check_cuda(mix_case(x, deferred, skip)), "");
}

TEST_F(CudaParity, NormsWithoutTheNormedRows) {
  cuda::State gpu({tensor::DeviceKind::cuda, 0});
  const Setting there{false, {}, nullptr, &gpu};
  const auto expect_same = [&](const OpCase& c, const std::vector<bool>& wanted) {
    std::string problem;
    const Blocks in = make_inputs(c, false);
    const Blocks all = execute(c, there, {*c.op, views(in), {}, {}, {}}, problem);
    const Blocks some = execute(c, there, {*c.op, views(in), wanted, {}, {}}, problem);
    for (std::size_t k = 0; k < wanted.size(); ++k)
      EXPECT_TRUE(!wanted[k] || some[k].same_bytes(all[k])) << c.name << " output " << k;
    EXPECT_EQ(problem, "");
  };
  for (const Shape& x : {Shape{300, 512}, Shape{3, 65}, Shape{40, 1032}})
    for (const bool narrow : {false, true}) {
      const auto form = [&](const OpCase& c) { return narrow ? bf16_form(c).value() : c; };
      expect_same(form(mix_case(x, true, false)), {true, false, true});
      expect_same(form(mix_case(x, true, true)), {true, false, true});
      expect_same(form(op_case("rms_norm", std::make_shared<RmsNorm>(0.7f, eps, true),
                               {tensor_input(x, normal(2))}, {1})),
                  {false, true});
    }
}

TEST_F(CudaParity, ResidualsAndActivation) {
  for (const Shape& x : {Shape{2, 150, 512}, Shape{2, 33, 1536}}) {
    const auto d = x.columns();
    for (const auto scales : {d, std::int64_t{1}})
      EXPECT_EQ(check_cuda(op_case("scaled_residual " + x.str(), std::make_shared<ScaledResidual>(),
                                   {tensor_input(x, normal()), tensor_input(x, normal()),
                                    tensor_input({scales}, normal())})),
                "");
    EXPECT_EQ(check_cuda(op_case("smear " + x.str(), std::make_shared<Smear>(),
                                 {tensor_input(x, normal()), tensor_input({d}, normal()),
                                  tensor_input({x[0], d}, normal(), false)})),
              "");
    EXPECT_EQ(check_cuda(op_case("take_last " + x.str(), std::make_shared<TakeLast>(16),
                                 {tensor_input(x, normal())})),
              "");
    EXPECT_EQ(check_cuda(op_case("memory_tokens " + x.str(), std::make_shared<MemoryTokens>(),
                                 {tensor_input(x, normal()), tensor_input({4, d}, normal())})),
              "");
    EXPECT_EQ(check_cuda(op_case("leaky_relu_squared " + x.str(), std::make_shared<LeakyReluSquared>(0.5f),
                                 {tensor_input(x, normal())})),
              "");
    EXPECT_EQ(check_cuda(op_case("add " + x.str(), std::make_shared<Add>(),
                                 {tensor_input(x, normal()), tensor_input(x, normal())})),
              "");
  }
}

TEST_F(CudaParity, QkvPrepare) {
  // Vectors of 8 or 4 (dims 16, 64), pairs narrower than a vector (dims 8), wide heads.
  for (const auto& [h, dims] : {std::pair{HeadShape{8, 4, 64}, 16},
                                {HeadShape{8, 4, 64}, 64},
                                {HeadShape{2, 1, 64}, 8},
                                {HeadShape{4, 2, 128}, 32},
                                {HeadShape{2, 2, 320}, 64}}) {
    const std::int64_t b = 2, s = 101;
    auto c =
        op_case(fmt::format("qkv_prepare dh {} rope {}", h.head_dim, dims),
                std::make_shared<QkvPrepare>(h, dims, eps, true),
                {tensor_input({b, s, h.qkv_width()}, normal()), tensor_input({h.heads}, normal(0.2, 1.5)),
                 tensor_input({s + 9, dims}, listed(rope_table(s + 9, dims)), false),
                 index_input({b}, integers(0, 10)), tensor_input({b, s, h.kv_width()}, normal()),
                 tensor_input({1}, normal()), tensor_input({1}, normal())},
                {3});
    c.add_outputs = {0, 1, 2};
    EXPECT_EQ(check_cuda(c), "");
  }
}

InputSpec segments(std::int64_t batch, std::int64_t positions, std::int64_t length) {
  std::vector<double> starts;
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t p = 0; p < positions; ++p)
      starts.push_back(static_cast<double>(p / (length + b) * (length + b)));
  return index_input({batch, positions}, listed(starts));
}

TEST_F(CudaParity, Attention) {
  for (const auto& [batch, queries, positions] :
       {std::tuple{1, 3, 3}, {2, 130, 130}, {1, 64, 333}, {2, 300, 300}, {2, 1500, 1700}}) {
    const HeadShape h{4, 2, 64};
    auto c =
        op_case(fmt::format("attention {} {} {}", batch, queries, positions), std::make_shared<Attention>(h),
                {tensor_input({batch, queries, h.heads, 64}, normal()),
                 tensor_input({batch, positions, h.kv_heads, 64}, normal()),
                 tensor_input({batch, positions, h.kv_heads, 64}, normal())},
                {1});
    c.add_outputs = {0};
    EXPECT_EQ(check_cuda(c), "");
    c.name += " in segments";
    c.inputs.push_back(segments(batch, positions, 37));
    EXPECT_EQ(check_cuda(c), "");
    c.inputs.back() = segments(batch, positions, 400);  // across blocks of keys and queries
    EXPECT_EQ(check_cuda(c), "");
  }
}

// Such a row's dQ is finished on the way: groups of query blocks behind the last keys that they see.
TEST_F(CudaParity, AttentionOfALongRowInSegments) {
  const HeadShape h{4, 2, 64};
  const std::int64_t queries = 4700;
  for (const std::int64_t positions : {queries, queries + 333})
    for (const std::int64_t length : {61, 900}) {
      auto c = op_case(
          fmt::format("attention {} in segments of {}", positions, length), std::make_shared<Attention>(h),
          {tensor_input({1, queries, h.heads, 64}, normal()),
           tensor_input({1, positions, h.kv_heads, 64}, normal()),
           tensor_input({1, positions, h.kv_heads, 64}, normal()), segments(1, positions, length)},
          {1});
      c.add_outputs = {0};
      EXPECT_EQ(check_cuda(c), "");
    }
}

/// Keys whose mean square is 1 exactly.
double sign(const base::Random& random, std::uint64_t index) { return random.normal(index) < 0 ? -1 : 1; }

/// Up to a query norm of about 66 the kernel needs no running maximum: so in all rows and in some; and with
/// scores at their bounds, where queries are 8 times a key or its opposite.
TEST_F(CudaParity, AttentionWithUnitKeys) {
  const HeadShape h{4, 2, 64};
  const Generator aligned = [](const base::Random&, std::uint64_t index) {
    return (index / 64 % 3 == 0 ? -8.0 : 8.0) * (index % 7 < 3 ? -1 : 1);
  };
  const Generator pattern = [](const base::Random&, std::uint64_t index) {
    return index % 7 < 3 ? -1.0 : 1.0;
  };
  for (const auto& [batch, queries, positions] : {std::tuple{1, 65, 65}, {2, 130, 130}, {1, 77, 333}})
    for (const auto& [name, q, k] : {std::tuple<std::string, Generator, Generator>{"small", normal(), sign},
                                     {"some large", normal(8), sign},
                                     {"at the bound", aligned, pattern}}) {
      auto c = op_case(fmt::format("attention, unit keys, {} {} {} {}", name, batch, queries, positions),
                       std::make_shared<Attention>(h, true),
                       {tensor_input({batch, queries, h.heads, 64}, q),
                        tensor_input({batch, positions, h.kv_heads, 64}, k),
                        tensor_input({batch, positions, h.kv_heads, 64}, normal())},
                       {1});
      // Saturated weights make dq a difference of near-equal numbers, rounded to bf16: 0.012 of its norm has
      // been seen.
      if (name == "at the bound") c.norm_tolerance = 3e-2;
      EXPECT_EQ(check_cuda(c), "");
      c.name += " in segments";
      c.inputs.push_back(segments(batch, positions, 37));
      EXPECT_EQ(check_cuda(c), "");
    }
}

TEST_F(CudaParity, ExclusiveAttention) {
  // Groups of 1, 2 and 4 heads have a kernel of their own, others and heads of 24 columns a loop.
  for (const auto& h : {HeadShape{8, 4, 64}, HeadShape{8, 2, 64}, HeadShape{10, 1, 64}, HeadShape{4, 4, 128},
                        HeadShape{4, 2, 24}}) {
    auto c = op_case(fmt::format("xsa {} {} {}", h.heads, h.kv_heads, h.head_dim), std::make_shared<Xsa>(h),
                     {tensor_input({2, 131, h.heads, h.head_dim}, normal()),
                      tensor_input({2, 150, h.kv_heads, h.head_dim}, normal())});
    c.add_outputs = {0};
    EXPECT_EQ(check_cuda(c), "");
  }
}

TEST_F(CudaParity, AttentionDecode) {
  for (const auto& [fresh, capacity] : {std::pair{1, 700}, {9, 300}}) {
    const HeadShape h{8, 4, 64};
    const Shape kv{3, fresh, h.kv_heads, 64}, cache{3, capacity, h.kv_heads, 64};
    auto c =
        op_case(fmt::format("attention_decode {} {}", fresh, capacity), std::make_shared<AttentionDecode>(h),
                {tensor_input({3, fresh, h.heads, 64}, normal(), false), tensor_input(kv, normal(), false),
                 tensor_input(kv, normal(), false), index_input({3}, listed({0, 5, capacity - 1.0 * fresh})),
                 tensor_input(cache, normal(), false), tensor_input(cache, normal(), false)});
    c.inputs[4].state = c.inputs[5].state = true;
    EXPECT_EQ(check_cuda(c), "");
  }
}

TEST_F(CudaParity, CrossEntropy) {
  for (const auto& [rows, classes] : {std::pair{200, 1024}, {9, 12288}, {40, 1032}}) {
    auto c =
        op_case(fmt::format("softcap_cross_entropy {}x{}", rows, classes),
                std::make_shared<SoftcapCrossEntropy>(30.0f),
                {tensor_input({rows, classes}, normal(8)), index_input({rows}, integers(-1, classes))}, {1});
    c.add_outputs = {0};
    EXPECT_EQ(check_cuda(c), "");
    c.op = std::make_shared<SoftcapCrossEntropy>(30.0f, 0.01f);
    EXPECT_EQ(check_cuda(c), "");
  }
  EXPECT_EQ(
      check_cuda(op_case("weighted_sum", std::make_shared<WeightedSum>(),
                         {tensor_input({98304}, normal()), tensor_input({98304}, uniform(0, 1), false)})),
      "");
}

TEST_F(CudaParity, Gather) {
  // A row that most positions name crosses many segments; 20,000 rows count in global memory; some rows stay
  // empty.
  const Generator skewed = [](const base::Random& r, std::uint64_t i) {
    return static_cast<double>(r.uniform(i) < 0.6 ? 7 : r.below(i, 900));
  };
  for (const auto& [rows, columns, positions] :
       {std::tuple{1024, 512, 2500}, {20000, 64, 3000}, {900, 1032, 200}, {1024, 8, 1}}) {
    auto c = op_case(fmt::format("gather {}x{} {}", rows, columns, positions), std::make_shared<Gather>(),
                     {tensor_input({rows, columns}, normal()), index_input({positions}, skewed)});
    c.add_outputs = {0};
    EXPECT_EQ(check_cuda(c), "");
    c.inputs[0].meta.dtype = DType::bf16;
    EXPECT_EQ(check_cuda(c), "");
  }
}

TEST_F(CudaParity, CastRows) {
  auto c = op_case("cast_rows", std::make_shared<CastRows>(31),
                   {tensor_input({130, 1536}, normal(0.3)), absent_input()});
  // Clear of the borders between levels, in bf16 too.
  c.inputs[0].generator = [](const base::Random& r, std::uint64_t i) {
    return i % 64 == 0 ? 1.2421875 : std::round(r.normal(i) * 6) * 0.0400390625;
  };
  EXPECT_EQ(check_cuda(c), "");
}

TEST_F(CudaParity, LinearAdd) {
  // Fused; fused with rests; the library's.
  for (const auto& [m, n, k] :
       {std::tuple{256, 512, 512}, {1501, 512, 512}, {9001, 128, 64}, {130, 64, 72}}) {
    auto c = op_case(
        fmt::format("linear_add {}x{}x{}", m, n, k), std::make_shared<LinearAdd>(),
        {tensor_input({m, k}, normal()), tensor_input({n, k}, normal()), tensor_input({m, n}, normal())});
    // cuBLASLt's bf16 sums differ by a rounding between c = d and c beside d; the fused kernel's don't.
    c.in_place_rounds = n % 128 != 0;
    EXPECT_EQ(check_cuda(c), "");
  }
}

TEST_F(CudaParity, Products) {
  for (const bool ta : {false, true})
    for (const bool tb : {false, true})
      for (const auto& [m, n, k] : {std::tuple{256, 512, 512}, {256, 512, 1024}, {130, 33, 65}}) {
        auto c = op_case(fmt::format("matmul {}x{}x{} {}{}", m, n, k, ta ? 'T' : 'N', tb ? 'T' : 'N'),
                         std::make_shared<Matmul>(ta, tb),
                         {tensor_input(ta ? Shape{k, m} : Shape{m, k}, normal()),
                          tensor_input(tb ? Shape{n, k} : Shape{k, n}, normal())});
        c.add_outputs = {0};
        EXPECT_EQ(check_cuda(c), "");
      }
}

TEST_F(CudaParity, LongSumsOfWeightGradientsRepeat) {
  // The shape that invites split-K: few outputs, a long sum.
  auto c =
      op_case("matmul long sum", std::make_shared<Matmul>(true, false, ProductResult::wide),
              {tensor_input({16384, 64}, normal(), false), tensor_input({16384, 64}, normal(), false)}, {0});
  c.add_outputs = {0};
  EXPECT_EQ(check_cuda(c), "");
}

TEST_F(CudaParity, IndicesOutsideAreReported) {
  cuda::State gpu({tensor::DeviceKind::cuda, 0});
  const Setting there{false, {}, nullptr, &gpu};
  std::string problem;
  const auto run = [&](OperatorPtr op, std::vector<InputSpec> inputs) {
    const auto c = op_case("", std::move(op), std::move(inputs));
    const Blocks in = make_inputs(c, false);
    return execute(c, there, {*c.op, views(in), {}, {}, {}}, problem);
  };
  const auto gather = [&](double index) {
    run(std::make_shared<Gather>(), {tensor_input({4, 3}, normal()), index_input({2}, listed({0, index}))});
  };
  for (const double bad : {-1.0, 4.0}) EXPECT_THROW(gather(bad), base::Error);
  EXPECT_NO_THROW(gather(3));  // the record was cleared
  EXPECT_THROW(run(std::make_shared<SoftcapCrossEntropy>(30.0f),
                   {tensor_input({1, 33}, normal()), index_input({1}, constant(33))}),
               base::Error);
  EXPECT_THROW(run(std::make_shared<QkvPrepare>(HeadShape{1, 1, 4}, 2, eps, false),
                   {tensor_input({1, 2, 12}, normal()), tensor_input({1}, constant(1)),
                    tensor_input({4, 2}, normal(), false), index_input({1}, constant(3))}),
               base::Error);
  const Shape one{1, 1, 1, 8}, cache{1, 8, 1, 8};
  EXPECT_THROW(
      run(std::make_shared<AttentionDecode>(HeadShape{1, 1, 8}),
          {tensor_input(one, normal()), tensor_input(one, normal()), tensor_input(one, normal()),
           index_input({1}, constant(8)), tensor_input(cache, normal()), tensor_input(cache, normal())}),
      base::Error);
}

TEST_F(CudaParity, NotANumberShows) {
  cuda::State gpu({tensor::DeviceKind::cuda, 0});
  const Setting there{false, {}, nullptr, &gpu};
  std::vector<double> z(33, 1.0);
  z[20] = std::nan("");
  for (const auto dtype : {DType::f32, DType::bf16}) {
    auto c = op_case("", std::make_shared<SoftcapCrossEntropy>(30.0f),
                     {tensor_input({1, 33}, listed(z)), index_input({1}, constant(1))});
    c.inputs[0].meta.dtype = dtype;
    std::string problem;
    const Blocks in = make_inputs(c, false);
    EXPECT_TRUE(std::isnan(execute(c, there, {*c.op, views(in), {}, {}, {}}, problem)[0].values()[0]));
  }
}

TEST_F(CudaParity, GatesAndLanes) {
  // 512: whole vectors; 65: one element at a time; 700 rows: several for each warp of a piece.
  for (const Shape& x : {Shape{300, 512}, Shape{2, 70, 65}, Shape{1, 700, 128}}) {
    EXPECT_EQ(check_cuda(gated_skip_case(x)), "");
    for (const bool join : {false, true}) EXPECT_EQ(check_cuda(two_lanes_case(x, join)), "");
  }
  for (const auto& sizes : {GateSizes{2, 70, 70, 8, 64, 512, 12}, GateSizes{2, 5, 33, 3, 9, 27, 12},
                            GateSizes{1, 40, 40, 40, 4, 160, 160}})  // more heads than lanes
    for (const float factor : {1.0f, 2.0f}) EXPECT_EQ(check_cuda(head_gate_case(sizes, factor)), "");
  for (const bool carried : {false, true})
    for (const Shape& x : {Shape{3, 100, 512}, Shape{2, 50, 65}})
      EXPECT_EQ(check_cuda(token_smear_case(x, 12, carried)), "");
}

}  // namespace
}  // namespace fairway::ops
