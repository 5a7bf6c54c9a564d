#include "cases.h"

#include "fairway/ops/activation.h"
#include "fairway/ops/attention.h"
#include "fairway/ops/cast_rows.h"
#include "fairway/ops/cross_entropy.h"
#include "fairway/ops/embedding.h"
#include "fairway/ops/linear_relu_squared.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/norm.h"
#include "fairway/ops/qkv_product.h"
#include "fairway/ops/residual.h"

namespace fairway::bench {
namespace {

using namespace ops;
using namespace ops::harness;

/// Cheap values in [-1, 1): millions of inputs need no good random numbers.
Generator values() {
  return [](const base::Random&, std::uint64_t i) {
    return static_cast<double>((i * 0x9e3779b97f4a7c15u) >> 40) / (1 << 23) - 1;
  };
}
Generator tokens(std::int64_t end) {
  return [=](const base::Random&, std::uint64_t i) {
    return static_cast<double>(((i * 0x9e3779b97f4a7c15u) >> 33) % static_cast<std::uint64_t>(end));
  };
}
InputSpec tensor(Shape shape) { return tensor_input(shape, values()); }

template <class Op, class... A>
OpCase make(std::string name, std::vector<InputSpec> inputs, std::vector<int> saved, A... attributes) {
  OpCase c;
  c.name = std::move(name);
  c.op = std::make_shared<Op>(attributes...);
  c.inputs = std::move(inputs);
  c.saved_outputs = std::move(saved);
  return c;
}

OpCase linear(const std::string& name, std::int64_t rows, std::int64_t in, std::int64_t out) {
  return make<Matmul>("linear " + name, {tensor({rows, in}), tensor({out, in})}, {}, false, true);
}

constexpr float eps = 1e-6f;
constexpr int rope_dims = 16;

}  // namespace

ModelSizes full_model() { return {"27M model", 2, 2048, 512, 1536, 1024, {8, 4, 64}}; }
ModelSizes gpu_model(std::int64_t batch) {
  ModelSizes m = full_model();
  m.batch = batch;
  return m;
}
ModelSizes demo_small() { return {"demo 128", 8, 256, 128, 384, 1024, {4, 2, 32}}; }
ModelSizes demo_large() { return {"demo 256", 8, 512, 256, 768, 1024, {4, 2, 64}}; }

std::vector<OpCase> training_cases(const ModelSizes& m) {
  const std::int64_t b = m.batch, s = m.length, d = m.width, rows = b * s, dh = m.heads.head_dim;
  const Shape x{b, s, d}, channel{d};
  return {
      make<Gather>("embedding", {tensor({m.vocabulary, d}), index_input({b, s}, tokens(m.vocabulary))}, {}),
      make<BigramIndex>("bigram index", {index_input({b, s}, tokens(m.vocabulary))}, {}, 2048),
      make<Smear>("smear", {tensor(x), tensor(channel)}, {}),
      make<MixNorm>("mix and norm", {tensor(x), tensor(x), tensor({2, d})}, {2}, 1.0f, eps),
      make<MixNorm>("mix, skip and norm", {tensor(x), tensor(x), tensor({2, d}), tensor(x), tensor(channel)},
                    {2}, 1.0f, eps, false, true),
      linear("qkv", rows, d, m.heads.qkv_width()),
      make<QkvPrepare>("norm, rope, value embedding",
                       {tensor({b, s, m.heads.qkv_width()}), tensor({m.heads.heads}),
                        tensor_input({s, rope_dims}, values(), false), absent_input(),
                        tensor({b, s, m.heads.kv_width()}), tensor({1}), tensor({1})},
                       {3}, m.heads, rope_dims, eps, true),
      make<QkvProduct>("qkv and its heads",
                       {tensor({b, s, d}), tensor({m.heads.qkv_width(), d}), tensor({m.heads.heads}),
                        tensor_input({s, rope_dims}, values(), false), absent_input(),
                        tensor({b, s, m.heads.kv_width()}), tensor({1}), tensor({1})},
                       {3}, m.heads, rope_dims, eps, true),
      make<Attention>("attention",
                      {tensor({b, s, m.heads.heads, dh}), tensor({b, s, m.heads.kv_heads, dh}),
                       tensor({b, s, m.heads.kv_heads, dh})},
                      {1}, m.heads),
      make<Xsa>("exclusive attention",
                {tensor({b, s, m.heads.heads, dh}), tensor({b, s, m.heads.kv_heads, dh})}, {}, m.heads),
      linear("attention out", rows, m.heads.q_width(), d),
      make<ResidualNorm>("residual and norm", {tensor(x), tensor(x), tensor(channel)}, {2}, 1.0f, eps),
      linear("mlp up", rows, d, m.hidden),
      make<LeakyReluSquared>("activation", {tensor({b, s, m.hidden})}, {}, 0.5f),
      linear("mlp down", rows, m.hidden, d),
      make<LinearReluSquared>("mlp up and activation", {tensor({rows, d}), tensor({m.hidden, d})}, {0}, 0.5f),
      make<ReluSquaredLinearAdd>(
          "mlp down after activation",
          {tensor({rows, m.hidden}), tensor({rows, m.hidden}), tensor({d, m.hidden}), tensor({rows, d})}, {},
          0.5f),
      make<ScaledResidual>("residual", {tensor(x), tensor(x), tensor(channel)}, {}),
      make<RmsNorm>("final norm", {tensor(x)}, {1}, 1.0f, eps),
      linear("logits", rows, d, m.vocabulary),
      make<SoftcapCrossEntropy>("cross entropy",
                                {tensor({b, s, m.vocabulary}), index_input({b, s}, tokens(m.vocabulary))},
                                {1}, 30.0f),
      make<CastRows>("fake quantise", {tensor({m.hidden, d})}, {}, 31),
  };
}

std::vector<OpCase> decode_cases(const ModelSizes& m) {
  const std::int64_t b = m.batch, d = m.width, dh = m.heads.head_dim;
  const Shape q{b, 1, m.heads.heads, dh}, kv{b, 1, m.heads.kv_heads, dh},
      cache{b, m.length, m.heads.kv_heads, dh};
  return {
      linear("qkv, one token", b, d, m.heads.qkv_width()),
      linear("mlp up, one token", b, d, m.hidden),
      make<AttentionDecode>(
          "attention, one token",
          {tensor(q), tensor(kv), tensor(kv), index_input({b}, constant(static_cast<double>(m.length - 1))),
           tensor(cache), tensor(cache)},
          {}, m.heads),
  };
}

OpCase peak_product() {
  return make<Matmul>("peak", {tensor({256, 512}), tensor({512, 512})}, {}, false, false);
}
OpCase large_product() {
  return make<Matmul>("large", {tensor({4096, 4096}), tensor({4096, 4096})}, {}, false, true);
}
OpCase large_copy() { return make<Copy>("large copy", {tensor({48 << 20})}, {}); }
OpCase peak_copy() { return make<Copy>("copy", {tensor({16 << 20})}, {}); }

}  // namespace fairway::bench
