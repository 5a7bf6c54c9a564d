#include "fairway/ops/matmul.h"

#include <gtest/gtest.h>

#include <cstring>
#include <filesystem>

#include "fairway/base/thread_pool.h"
#include "fairway/ops/registry.h"
#include "fairway/tensor/buffer.h"
#include "ops/direct.h"
#include "support/compare.h"

namespace fairway::ops {
namespace {

using namespace harness;

struct Product {
  std::int64_t m, n, k;
};

OpCase product(Product p, bool ta, bool tb) {
  OpCase c;
  c.name = fmt::format("matmul {}x{}x{} {}{}", p.m, p.n, p.k, ta ? 'T' : 'N', tb ? 'T' : 'N');
  c.op = std::make_shared<Matmul>(ta, tb);
  c.inputs = {tensor_input(ta ? Shape{p.k, p.m} : Shape{p.m, p.k}, normal()),
              tensor_input(tb ? Shape{p.n, p.k} : Shape{p.k, p.n}, normal())};
  c.add_outputs = {0};
  c.probes = 6;
  return c;
}

TEST(LinearAdd, AllChecks) {
  for (const Product p : {Product{1, 1, 1}, {3, 7, 33}, {65, 130, 33}}) {
    OpCase c;
    c.name = fmt::format("linear_add {}x{}x{}", p.m, p.n, p.k);
    c.op = std::make_shared<LinearAdd>();
    c.inputs = {tensor_input({p.m, p.k}, normal()), tensor_input({p.n, p.k}, normal()),
                tensor_input({p.m, p.n}, normal())};
    c.rejects = {{{DType::f32, {p.m, p.k}}, {DType::f32, {p.n, p.k}}, {DType::f32, {p.m, p.n + 1}}}};
    c.probes = 6;
    EXPECT_EQ(run_all_checks(c), "");
  }
  EXPECT_EQ(LinearAdd(true).infer(std::vector<Meta>{
                {DType::bf16, {3, 64}}, {DType::bf16, {200, 64}}, {DType::bf16, {3, 200}}})[1],
            (Meta{DType::f32, {3, 2}}))
      << "squares of 128 columns, and of the rest";
}

class Transposes : public ::testing::TestWithParam<std::tuple<bool, bool>> {};

TEST_P(Transposes, SmallOddShapes) {
  const auto [ta, tb] = GetParam();
  for (const Product p : {Product{1, 1, 1}, {3, 7, 33}, {65, 130, 33}, {1, 130, 65}, {130, 1, 7}})
    EXPECT_EQ(run_all_checks(product(p, ta, tb)), "");
}

TEST_P(Transposes, TilesAndSplits) {
  const auto [ta, tb] = GetParam();
  // Tiles with odd rests, and (last) few tiles with a long sum.
  for (const Product p : {Product{515, 259, 65}, {130, 1030, 129}, {129, 67, 2051}}) {
    OpCase c = product(p, ta, tb);
    c.tolerance = 1e-4;
    EXPECT_EQ(check_precision(c), "");
    EXPECT_EQ(check_threads(c), "");
  }
}

TEST_P(Transposes, Bf16Products) {
  const auto [ta, tb] = GetParam();
  for (const Product p : {Product{3, 7, 33}, {257, 300, 129}, {129, 67, 2051}}) {
    OpCase c = product(p, ta, tb);
    c.products = DType::bf16;
    c.tolerance = 3e-2;  // operands keep 8 bits: errors of up to 2^-9 each
    EXPECT_EQ(check_precision(c), "");
    EXPECT_EQ(check_threads(c), "");
  }
}

INSTANTIATE_TEST_SUITE_P(All, Transposes, ::testing::Combine(::testing::Bool(), ::testing::Bool()));

TEST(Matmul, FlattensLeadingAxes) {
  OpCase c{.name = "linear layer on [2, 5, 33]", .op = std::make_shared<Matmul>(false, true)};
  c.inputs = {tensor_input({2, 5, 33}, normal()), tensor_input({7, 33}, normal())};
  c.rejects = {{{DType::f32, {2, 5, 33}}, {DType::f32, {33, 7}}},
               {{DType::f32, {2, 5, 33}}, {DType::f64, {7, 33}}},
               {{DType::f32, {33}}, {DType::f32, {7, 33}}},
               {{DType::f32, {2, 5, 33}}}};
  EXPECT_EQ(run_all_checks(c), "");
}

/// One plain call.
tensor::Array multiply(const Matmul& op, const tensor::Array& a, const tensor::Array& b, DType products) {
  const Meta in[] = {a.meta(), b.meta()};
  const auto out = op.infer(in);
  tensor::Array c(out[0]);
  tensor::Buffer workspace({}, op.workspace_bytes(in, out) + 1);
  base::ThreadPool pool(2);
  const Context context{&pool, products, nullptr};
  const View inputs[] = {a.view(), b.view()}, outputs[] = {c.view()};
  const Write writes[] = {Write::set};
  find_kernel("matmul", {},
              base::best_isa())({op, inputs, outputs, writes, {workspace.data(), {DType::u8, {}}}, context});
  return c;
}

tensor::Array random_array(Shape shape, std::string_view purpose) {
  tensor::Array array({DType::f32, shape});
  const base::Random random(7, purpose);
  for (std::size_t i = 0; i < array.span<float>().size(); ++i)
    array.span<float>()[i] = static_cast<float>(random.normal(i));
  return array;
}

TEST(Matmul, Bf16RoundsOperandsAndKeepsFloatSums) {
  tensor::Array a = random_array({300, 700}, "a"), b = random_array({200, 700}, "b");
  const Matmul op(false, true);
  const auto got = multiply(op, a, b, DType::bf16);
  for (tensor::Array* x : {&a, &b})
    for (float& v : x->span<float>()) v = tensor::round_to_bf16(v);
  const auto want = multiply(op, a, b, DType::f32);
  EXPECT_LT(testing::max_difference(got.span<float>(), want.span<float>()),
            2e-3);  // sums of 700 products of size 1 in fp32; bf16 sums would be off by 0.1
}

TEST(Matmul, LibraryStaysOnTheCallingThread) {
  auto tasks = [] {
    std::size_t n = 0;
    for ([[maybe_unused]] const auto& task : std::filesystem::directory_iterator("/proc/self/task")) ++n;
    return n;
  };
  const tensor::Array a = random_array({512, 512}, "a"), b = random_array({512, 512}, "b");
  const std::size_t before = tasks();
  for (auto products : {DType::f32, DType::bf16}) multiply(Matmul(false, true), a, b, products);
  EXPECT_EQ(tasks(), before);  // our own pool is gone; a thread that OpenMP started would linger
}

}  // namespace
}  // namespace fairway::ops
