// ops::cuda::multiply against the definition.
#include <gtest/gtest.h>

#include <cmath>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "fairway/ops/cuda_gemm.h"
#include "fairway/ops/cuda_work.h"
#include "fairway/tensor/buffer.h"
#include "fairway/tensor/cuda.h"

namespace fairway::ops::cuda {
namespace {

using tensor::DType;

/// An array of f32 or bf16 on the device, and its values as stored.
struct Operand {
  Operand(State& state, DType type, std::int64_t count, const char* purpose)
      : dtype(type),
        values(static_cast<std::size_t>(count)),
        memory(state.device(), values.size() * tensor::size_of(type)) {
    const base::Random random(5, purpose);
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(random.normal(i));
    std::vector<tensor::bf16> narrow(values.size());
    for (std::size_t i = 0; i < values.size(); ++i) {
      narrow[i] = tensor::to_bf16(values[i]);
      if (type == DType::bf16) values[i] = tensor::to_float(narrow[i]);
    }
    const void* from = type == DType::bf16 ? static_cast<const void*>(narrow.data()) : values.data();
    tensor::copy_bytes(state.device(), memory.data(), {}, from, memory.bytes());
  }
  std::vector<float> fetch(State& state) const {
    state.synchronize();
    std::vector<float> got(values.size());
    std::vector<tensor::bf16> narrow(values.size());
    void* to = dtype == DType::bf16 ? static_cast<void*>(narrow.data()) : got.data();
    tensor::copy_bytes({}, to, state.device(), memory.data(), memory.bytes());
    for (std::size_t i = 0; dtype == DType::bf16 && i < got.size(); ++i) got[i] = tensor::to_float(narrow[i]);
    return got;
  }
  DType dtype;
  std::vector<float> values;
  tensor::Buffer memory;
};

class BatchedProducts : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = tensor::cuda_unavailable_reason(); !reason.empty())
      GTEST_SKIP() << "needs a GPU: " << reason;
    if (const auto reason = gemm_unavailable_reason(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

/// |got - expected| / |expected| over all matrices of the batch; what lies between them must not change.
double error_of(State& state, const BatchedGemm& p, bool in_place) {
  const auto room = [&](std::int64_t stride, std::int64_t size) {
    return stride * (p.batches - 1) + size + 5;
  };
  const Operand a(state, p.operands, room(p.stride_a, p.m * p.k), "a"),
      b(state, p.operands, room(p.stride_b, p.k * p.n), "b"),
      c(state, p.result, room(p.stride_c, p.m * p.n), "c"),
      d(state, p.result, room(p.stride_d, p.m * p.n), "d");
  multiply(state, p, a.memory.data(), b.memory.data(), in_place ? d.memory.data() : c.memory.data(),
           d.memory.data());
  const auto got = d.fetch(state);
  auto untouched = d.values;
  double difference = 0, size = 0;
  for (std::int64_t i = 0; i < p.batches; ++i)
    for (std::int64_t r = 0; r < p.m; ++r)
      for (std::int64_t col = 0; col < p.n; ++col) {
        const auto at = [](const Operand& o, std::int64_t index) {
          return static_cast<double>(o.values[static_cast<std::size_t>(index)]);
        };
        double sum = 0;
        for (std::int64_t k = 0; k < p.k; ++k)
          sum += at(a, i * p.stride_a + (p.transpose_a ? k * p.m + r : r * p.k + k)) *
                 at(b, i * p.stride_b + (p.transpose_b ? col * p.k + k : k * p.n + col));
        const std::int64_t before = (in_place ? i * p.stride_d : i * p.stride_c) + r * p.n + col;
        const double expected =
            static_cast<double>(p.alpha) * sum + static_cast<double>(p.beta) * at(in_place ? d : c, before);
        const auto place = static_cast<std::size_t>(i * p.stride_d + r * p.n + col);
        difference += std::pow(got[place] - expected, 2);
        size += expected * expected;
        untouched[place] = got[place];
      }
  EXPECT_EQ(got, untouched) << "wrote outside its matrices";
  return std::sqrt(difference / size);
}

TEST_F(BatchedProducts, AgreeWithTheDefinition) {
  State state({tensor::DeviceKind::cuda, 0});
  for (const auto& [m, n, k] : {std::tuple{64, 64, 64}, {64, 48, 128}, {33, 65, 17}, {1, 7, 1}})
    for (const bool ta : {false, true})
      for (const bool tb : {false, true})
        for (const bool in_place : {false, true})
          for (const auto& [operands, result] :
               {std::pair{DType::bf16, DType::bf16}, {DType::bf16, DType::f32}, {DType::f32, DType::f32}}) {
            BatchedGemm p{.m = m,
                          .n = n,
                          .k = k,
                          .batches = 3,
                          .transpose_a = ta,
                          .transpose_b = tb,
                          .operands = operands,
                          .result = result,
                          .stride_a = m * k + 16,
                          .stride_b = k * n,
                          .stride_c = m * n + 32,
                          .stride_d = in_place ? m * n + 32 : m * n + 8,
                          .alpha = 1.5f,
                          .beta = -0.75f};
            EXPECT_LE(error_of(state, p, in_place), result == DType::bf16 ? 4e-3 : 1e-5)
                << m << "x" << n << "x" << k << " " << ta << tb << in_place;
          }
}

TEST_F(BatchedProducts, OneMatrixForAll) {
  State state({tensor::DeviceKind::cuda, 0});
  BatchedGemm p{.m = 32, .n = 40, .k = 24, .batches = 4, .operands = DType::f32, .result = DType::f32};
  p.stride_b = p.k * p.n;
  p.stride_c = p.stride_d = p.m * p.n;
  EXPECT_LE(error_of(state, p, false), 1e-5);
}

TEST_F(BatchedProducts, RecordedAfterOneCall) {
  State state({tensor::DeviceKind::cuda, 0});
  BatchedGemm p{.m = 64, .n = 64, .k = 64, .batches = 2, .stride_a = 4096, .stride_b = 4096};
  p.stride_c = p.stride_d = 4096;
  const Operand a(state, DType::bf16, 8192, "a"), b(state, DType::bf16, 8192, "b");
  Operand once(state, DType::bf16, 8192, "x"), again(state, DType::bf16, 8192, "y");
  multiply(state, p, a.memory.data(), b.memory.data(), nullptr, once.memory.data());
  Recording work(state,
                 [&] { multiply(state, p, a.memory.data(), b.memory.data(), nullptr, again.memory.data()); });
  EXPECT_EQ(again.fetch(state), again.values) << "recording runs nothing";
  work.replay();
  EXPECT_EQ(again.fetch(state), once.fetch(state));
}

TEST_F(BatchedProducts, RefuseWhatIsMeaningless) {
  State state({tensor::DeviceKind::cuda, 0});
  const Operand x(state, DType::f32, 64, "x");
  BatchedGemm p{.m = 4, .n = 4, .k = 4, .operands = DType::f32, .result = DType::f32, .beta = 1.0f};
  EXPECT_THROW(multiply(state, p, x.memory.data(), x.memory.data(), nullptr, x.memory.data()), base::Error);
  p.operands = DType::i32;
  EXPECT_THROW(multiply(state, p, x.memory.data(), x.memory.data(), x.memory.data(), x.memory.data()),
               base::Error);
}

}  // namespace
}  // namespace fairway::ops::cuda
