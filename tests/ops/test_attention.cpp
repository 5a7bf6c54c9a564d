#include "fairway/ops/attention.h"

#include <gtest/gtest.h>

#include <cmath>

#include "fairway/base/thread_pool.h"
#include "fairway/ops/registry.h"
#include "fairway/tensor/buffer.h"
#include "ops/harness.h"

namespace fairway::ops {
namespace {

using namespace harness;

struct Sizes {
  std::int64_t batch, queries, positions;
  HeadShape heads;
};

OpCase attention_case(const Sizes& n) {
  const HeadShape& h = n.heads;
  OpCase c;
  c.name = fmt::format("attention B={} Sq={} S={} H={} Hkv={} dh={}", n.batch, n.queries, n.positions,
                       h.heads, h.kv_heads, h.head_dim);
  c.op = std::make_shared<Attention>(h);
  c.inputs = {tensor_input({n.batch, n.queries, h.heads, h.head_dim}, normal(1.5)),
              tensor_input({n.batch, n.positions, h.kv_heads, h.head_dim}, normal(1.5)),
              tensor_input({n.batch, n.positions, h.kv_heads, h.head_dim}, normal())};
  c.saved_outputs = {1};
  c.add_outputs = {0};
  c.probes = 12;
  c.tolerance = 1e-4;
  return c;
}

TEST(Attention, OddSizes) {
  for (const Sizes& n : {Sizes{1, 1, 1, {1, 1, 1}},
                         {2, 7, 7, {3, 1, 7}},
                         {2, 33, 33, {4, 2, 8}},
                         {1, 65, 65, {2, 2, 33}},
                         {3, 3, 17, {2, 1, 16}},
                         {1, 1, 65, {4, 2, 8}}})
    EXPECT_EQ(run_all_checks(attention_case(n)), "");
}

/// Segments of uneven length, as documents packed into a row: entry p is the start of p's segment.
InputSpec segments(std::int64_t batch, std::int64_t positions, std::int64_t length) {
  std::vector<double> starts;
  for (std::int64_t b = 0; b < batch; ++b)
    for (std::int64_t p = 0; p < positions; ++p)
      starts.push_back(static_cast<double>(p / (length + b) * (length + b)));
  return index_input({batch, positions}, listed(starts));
}

TEST(Attention, SeesOnlyItsSegment) {
  for (const Sizes& n : {Sizes{2, 33, 33, {4, 2, 8}}, {2, 9, 33, {2, 1, 8}}}) {
    OpCase c = attention_case(n);
    c.name += " in segments";
    c.inputs.push_back(segments(n.batch, n.positions, 7));
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(Attention, ManyBlocksAndChunks) {
  // Over 1024 positions: several key blocks, both chunks of backward, blocks that only part of the rows see.
  for (const Sizes& n : {Sizes{1, 1100, 1100, {2, 1, 8}}, {1, 130, 1155, {2, 1, 8}}}) {
    OpCase c = attention_case(n);
    EXPECT_EQ(check_precision(c), "");
    EXPECT_EQ(check_threads(c), "");
    c.inputs.push_back(segments(n.batch, n.positions, 400));
    EXPECT_EQ(check_precision(c), "");
  }
}

/// Operands keep 8 bits. Scores here are of size 1.5^2 and move probabilities, and gradients are differences:
/// the worst of 74,000 elements is off by 0.066.
TEST(Attention, Bf16Products) {
  for (const Sizes& n : {Sizes{2, 7, 7, {3, 1, 7}},
                         {2, 33, 33, {4, 2, 8}},
                         {1, 65, 65, {2, 2, 33}},
                         {2, 9, 33, {2, 1, 64}},
                         {1, 1100, 1100, {2, 1, 16}},
                         {1, 130, 1155, {2, 1, 64}}}) {
    OpCase c = attention_case(n);
    c.name += " in bf16";
    c.products = DType::bf16;
    c.tolerance = 8e-2;
    EXPECT_EQ(check_precision(c), "");
    EXPECT_EQ(check_threads(c), "");
    c.inputs.push_back(segments(n.batch, n.positions, 7));
    EXPECT_EQ(check_precision(c), "");
  }
}

TEST(Attention, GradientAcrossChunks) {
  OpCase c = attention_case({1, 40, 1100, {1, 1, 4}});
  c.probes = 4;
  EXPECT_EQ(check_gradient(c), "");
}

TEST(Attention, RefusesWrongShapes) {
  OpCase c = attention_case({2, 7, 9, {4, 2, 8}});
  const Meta q{DType::f32, {2, 7, 4, 8}}, k{DType::f32, {2, 9, 2, 8}};
  c.rejects = {{q, k},
               {q, k, {DType::f32, {2, 9, 4, 8}}},
               {{DType::f32, {2, 10, 4, 8}}, k, k},
               {{DType::f32, {3, 7, 4, 8}}, k, k},
               {q, k, k, {DType::i32, {2, 7}}},
               {q, k, k, {DType::f32, {2, 9}}}};
  EXPECT_EQ(check_infer(c), "");
}

/// Softmax written out, in double, for one query.
TEST(Attention, MatchesTheDefinition) {
  const HeadShape h{4, 2, 8};
  const std::int64_t positions = 21;
  tensor::Array q({DType::f64, {1, positions, 4, 8}}), k({DType::f64, {1, positions, 2, 8}}), v(k.meta());
  int purpose = 0;
  for (tensor::Array* x : {&q, &k, &v}) {
    const base::Random random(3, std::to_string(purpose++));
    for (std::size_t i = 0; i < x->span<double>().size(); ++i) x->span<double>()[i] = random.normal(i);
  }
  const Attention op(h);
  const Meta in_metas[] = {q.meta(), k.meta(), v.meta()};
  const auto out_metas = op.infer(in_metas);
  tensor::Array o(out_metas[0]), lse(out_metas[1]);
  tensor::Buffer workspace({}, op.workspace_bytes(in_metas, out_metas));
  const View in[] = {q.view(), k.view(), v.view()}, out[] = {o.view(), lse.view()};
  const Write writes[] = {Write::set, Write::set};
  base::ThreadPool pool(1);
  const Context context{&pool, DType::f32, nullptr};
  find_kernel("attention", {}, base::best_isa())({op, in, out, writes, {workspace.data(), {}}, context});
  for (std::int64_t i = 0; i < positions; ++i)
    for (int head = 0; head < 4; ++head) {
      auto at = [](const tensor::Array& x, std::int64_t p, std::int64_t heads, std::int64_t n,
                   std::int64_t d) {
        return x.span<double>()[static_cast<std::size_t>((p * heads + n) * 8 + d)];
      };
      double total = 0, want[8] = {};
      for (std::int64_t p = 0; p <= i; ++p) {
        double score = 0;
        for (int d = 0; d < 8; ++d) score += at(q, i, 4, head, d) * at(k, p, 2, head / 2, d);
        const double e = std::exp(score / std::sqrt(8.0));
        total += e;
        for (int d = 0; d < 8; ++d) want[d] += e * at(v, p, 2, head / 2, d);
      }
      for (int d = 0; d < 8; ++d) EXPECT_NEAR(at(o, i, 4, head, d), want[d] / total, 1e-12);
      EXPECT_NEAR(lse.span<double>()[static_cast<std::size_t>(head * positions + i)], std::log(total), 1e-12);
    }
}

OpCase decode_case(std::int64_t batch, std::int64_t fresh, std::int64_t capacity, HeadShape h,
                   std::vector<double> lengths) {
  OpCase c;
  c.name =
      fmt::format("attention_decode B={} S={} C={} H={} Hkv={}", batch, fresh, capacity, h.heads, h.kv_heads);
  c.op = std::make_shared<AttentionDecode>(h);
  const Shape kv{batch, fresh, h.kv_heads, h.head_dim}, cache{batch, capacity, h.kv_heads, h.head_dim};
  c.inputs = {tensor_input({batch, fresh, h.heads, h.head_dim}, normal(1.5), false),
              tensor_input(kv, normal(), false),
              tensor_input(kv, normal(), false),
              index_input({batch}, listed(std::move(lengths))),
              tensor_input(cache, normal(), false),
              tensor_input(cache, normal(), false)};
  c.inputs[4].state = c.inputs[5].state = true;
  c.tolerance = 1e-4;
  return c;
}

TEST(AttentionDecode, OddSizes) {
  EXPECT_EQ(run_all_checks(decode_case(3, 1, 33, {4, 2, 7}, {0, 32, 5})), "");
  EXPECT_EQ(run_all_checks(decode_case(2, 7, 65, {6, 2, 8}, {0, 58})), "");
  EXPECT_EQ(run_all_checks(decode_case(1, 1, 1100, {8, 4, 16}, {1050})), "");
  EXPECT_EQ(run_all_checks(decode_case(1, 130, 700, {2, 1, 16}, {555})), "");
}

TEST(AttentionDecode, RefusesAFullCache) {
  EXPECT_EQ(check_precision(decode_case(1, 1, 8, {2, 1, 8}, {7})), "");
  EXPECT_THROW(check_precision(decode_case(1, 1, 8, {2, 1, 8}, {8})), base::Error);
  EXPECT_THROW(check_precision(decode_case(1, 1, 8, {2, 1, 8}, {-1})), base::Error);
}

TEST(Xsa, OddSizes) {
  for (const Sizes& n :
       {Sizes{1, 1, 1, {1, 1, 3}}, {2, 7, 7, {3, 1, 7}}, {2, 5, 33, {4, 2, 33}}, {1, 65, 65, {8, 4, 16}}}) {
    const HeadShape& h = n.heads;
    OpCase c;
    c.name = fmt::format("xsa Sq={} S={} H={} dh={}", n.queries, n.positions, h.heads, h.head_dim);
    c.op = std::make_shared<Xsa>(h);
    c.inputs = {tensor_input({n.batch, n.queries, h.heads, h.head_dim}, normal()),
                tensor_input({n.batch, n.positions, h.kv_heads, h.head_dim}, normal())};
    c.add_outputs = {0};
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(Xsa, ZeroValueHasNoGradient) {
  OpCase c{.name = "xsa with v = 0", .op = std::make_shared<Xsa>(HeadShape{2, 1, 8})};
  c.inputs = {tensor_input({1, 3, 2, 8}, normal()), tensor_input({1, 3, 1, 8}, constant(0), false)};
  EXPECT_EQ(run_all_checks(c), "");
}

}  // namespace
}  // namespace fairway::ops
