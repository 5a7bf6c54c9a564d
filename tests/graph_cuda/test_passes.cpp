// A rewritten graph against the plain one on the same GPU: outputs and every gradient, pass by pass, in bf16
// and at odd sizes. Both round to bf16 at other places, so they agree within its precision.
#include "fairway/graph/compute_weights.h"
#include "fairway/graph/program.h"
#include "fairway/ops/activation.h"
#include "fairway/ops/attention.h"
#include "fairway/ops/cross_entropy.h"
#include "fairway/ops/embedding.h"
#include "fairway/ops/gates.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/norm.h"
#include "fairway/ops/qkv.h"
#include "fairway/ops/residual.h"

#include "fairway/base/random.h"
#include "fairway/tensor/cuda.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>

namespace fairway::graph {
namespace {

using tensor::DType;

/// Sizes of one case.
struct Sizes {
  std::int64_t batch = 1, length = 1, width = 128, hidden = 256;
  ops::HeadShape heads = {2, 2, 64};
  int rope_dims = 16;
  bool value_embedding = false;
  float slope = 0.5f;
  int gate_channels = 0;   ///< xsa and a gate on the heads
  bool plain_sum = false;  ///< the MLP's result is added without a scale, by a step of its own
};

ParameterLayout layout_of(const Sizes& s) {
  ParameterLayout l;
  const auto matrix = [&](const char* name, std::int64_t out, std::int64_t in) {
    l.add({.name = name, .shape = {out, in}, .role = Role::mlp, .multiplied = true});
  };
  const auto vector = [&](const char* name, tensor::Shape shape) {
    l.add({.name = name, .shape = shape, .group = Group::scalar});
  };
  matrix("up", s.hidden, s.width), matrix("down", s.width, s.hidden);
  matrix("qkv", s.heads.qkv_width(), s.width), matrix("out", s.width, s.heads.q_width());
  vector("scale", {s.width}), vector("out_scale", {s.width}), vector("mix", {2, s.width});
  vector("gain", {s.heads.heads}), vector("vs", {1}), vector("w", {1});
  if (s.gate_channels) vector("gate", {s.heads.heads, s.gate_channels});
  l.finish();
  return l;
}

/// Rope angles like the model's: cos, then sin.
std::shared_ptr<const tensor::Array> rope(const Sizes& s) {
  auto table = std::make_shared<tensor::Array>(Meta{DType::f32, {s.length, s.rope_dims}});
  for (std::int64_t t = 0; t < s.length; ++t)
    for (int i = 0; i < s.rope_dims; ++i) {
      const double angle =
          static_cast<double>(t) * std::pow(100.0, -2.0 * (i % (s.rope_dims / 2)) / s.rope_dims);
      table->span<float>()[static_cast<std::size_t>(t * s.rope_dims + i)] =
          static_cast<float>(i < s.rope_dims / 2 ? std::cos(angle) : std::sin(angle));
    }
  return table;
}

/// A block without attention: mix and norm, heads (of which q goes on), out, MLP; the loss weighs every
/// number of the result through a softmax.
Graph block(const ParameterLayout& l, const Sizes& s, const Passes& passes) {
  Builder b("block", l, DType::bf16, [](auto) { return true; });
  const Meta rows{DType::bf16, {s.batch, s.length, s.width}};
  const auto u = b.input("u", rows), x0 = b.input("x0", rows);
  const auto linear = [&](ValueId x, const char* name) { return b.linear(x, b.compute_weight(name)); };
  const auto mixed = b.op<ops::MixNorm>({u, x0, b.parameter("mix")}, 0.7f, 1e-6f);
  const auto ve =
      s.value_embedding ? b.input("ve", {DType::bf16, {s.batch, s.length, s.heads.kv_width()}}) : absent;
  const auto q = b.op<ops::QkvPrepare>(
      {linear(mixed[1], "qkv"), b.parameter("gain"), b.constant("rope", rope(s)), absent, ve,
       s.value_embedding ? b.parameter("vs") : absent, s.value_embedding ? b.parameter("w") : absent},
      s.heads, s.rope_dims, 1e-6f, s.value_embedding);
  const tensor::Shape flat{s.batch, s.length, s.heads.q_width()};
  auto opened = q[0];
  if (s.gate_channels)
    opened = b.op1<ops::HeadGate>({b.op1<ops::Xsa>({q[0], q[2]}, s.heads), mixed[1], b.parameter("gate")},
                                  0.2f, 2.0f);
  auto attended = b.reshape(opened, flat);
  if (s.heads.kv_heads == s.heads.heads)
    attended = b.op1<ops::Add>({attended, b.op1<ops::Add>({b.reshape(q[1], flat), b.reshape(q[2], flat)})});
  const auto x1 = b.op1<ops::ScaledResidual>({mixed[0], linear(attended, "out"), b.parameter("out_scale")});
  const auto h = linear(b.op1<ops::RmsNorm>({x1}, 0.5f, 1e-6f), "up");
  const auto active = b.op1<ops::LeakyReluSquared>({h}, s.slope);
  const auto down = linear(active, "down");
  const auto x2 = s.plain_sum ? b.op1<ops::Add>({x1, down})
                              : b.op1<ops::ScaledResidual>({x1, down, b.parameter("scale")});
  b.output(x2, "x2");
  const auto targets = b.input("targets", {DType::i32, {s.batch, s.length}});
  const auto nll = b.op1<ops::SoftcapCrossEntropy>({x2, targets}, 30.0f, 0.0f);
  const auto weights = b.input("weights", {DType::f32, {s.batch, s.length}});
  const auto loss = b.op1<ops::WeightedSum>({nll, weights});
  b.output(loss, "loss");
  return b.finish(passes, loss);
}

using Results = std::map<std::string, std::vector<float>>;

Results run(const Sizes& s, const Passes& passes, ops::cuda::State& gpu, std::vector<std::string>& fired) {
  const auto l = layout_of(s);
  ParameterStore store(l, gpu.device(), true);
  std::vector<float> values(static_cast<std::size_t>(l.padded_elements()));
  for (const auto& p : l.parameters()) {
    const base::Random random(5, p.name);
    const double size = p.shape.rank() == 2 && p.group == Group::matrix
                            ? 1 / std::sqrt(static_cast<double>(p.shape[1]))
                            : 0.3;
    for (std::int64_t i = 0; i < p.elements(); ++i)
      values[static_cast<std::size_t>(p.offset + i)] = static_cast<float>(
          (p.group == Group::scalar ? 1.0 : 0.0) + size * random.normal(static_cast<std::uint64_t>(i)));
  }
  tensor::copy_bytes(gpu.device(), store.flat_values().data, {}, values.data(),
                     values.size() * sizeof(float));
  store.add_compute_weights(DType::bf16);
  Plan plan(store, {gpu.device(), base::best_isa(), {}, nullptr, &gpu});
  auto graph = block(l, s, passes);
  for (const auto& note : graph.notes)
    if (note.missed.empty()) fired.push_back(note.pass);
  auto& refresh = plan.add(build_refresh(l, DType::bf16, graph.folds));
  auto& unfold = plan.add(build_unfold(l, DType::bf16, graph.folds));
  auto& program = plan.add(std::move(graph));
  plan.allocate();
  const auto fill = [&](const char* name) {
    const auto view = program.view(name);
    const base::Random random(9, name);
    std::vector<tensor::bf16> numbers(static_cast<std::size_t>(view.elements()));
    for (std::size_t i = 0; i < numbers.size(); ++i)
      numbers[i] = tensor::to_bf16(static_cast<float>(random.normal(i)));
    program.write<tensor::bf16>(name, numbers);
  };
  fill("u"), fill("x0");
  if (s.value_embedding) fill("ve");
  std::vector<std::int32_t> targets(static_cast<std::size_t>(s.batch * s.length));
  for (std::size_t i = 0; i < targets.size(); ++i)
    targets[i] = static_cast<std::int32_t>(i * 37 % static_cast<std::size_t>(s.width));
  program.write<std::int32_t>("targets", targets);
  program.fill("weights", 1.0f / static_cast<float>(targets.size()));
  ops::cuda::zero_on_device(gpu, store.flat_gradients().data, store.flat_gradients().bytes());
  refresh.run();
  program.run();
  Results results;
  std::vector<tensor::bf16> rows(static_cast<std::size_t>(s.batch * s.length * s.width));
  program.read<tensor::bf16>("x2", rows);
  for (const auto v : rows) results["x2"].push_back(tensor::to_float(v));
  if (!unfold.graph().steps.empty()) unfold.run();
  gpu.synchronize();
  std::vector<float> gradients(values.size());
  tensor::copy_bytes({}, gradients.data(), gpu.device(), store.flat_gradients().data,
                     gradients.size() * sizeof(float));
  for (const auto& p : l.parameters())
    results[p.name].assign(gradients.begin() + p.offset, gradients.begin() + p.offset + p.elements());
  return results;
}

class PassesOnGpu : public ::testing::TestWithParam<Sizes> {
 protected:
  void SetUp() override {
    if (const auto reason = tensor::cuda_unavailable_reason(); !reason.empty())
      GTEST_SKIP() << "needs a GPU: " << reason;
  }
};

double norm(const std::vector<float>& v) {
  double sum = 0;
  for (const float x : v) sum += static_cast<double>(x) * static_cast<double>(x);
  return std::sqrt(sum);
}

TEST_P(PassesOnGpu, RewrittenAndPlainGraphsAgree) {
  const auto& s = GetParam();
  ops::cuda::State gpu({tensor::DeviceKind::cuda, 0});
  std::vector<std::string> none;
  const auto plain = run(s, {}, gpu, none);
  Passes some;
  for (const auto* pass : all_passes()) {
    some.push_back(pass);  // each with those before it, which make its pattern
    std::vector<std::string> fired;
    const auto rewritten = run(s, some, gpu, fired);
    const std::string_view which = pass->name;
    const bool place = which == "fuse_gated_xsa"
                           ? s.gate_channels > 0
                           : which != "residual_norm" && which != "recompute_activations";  // nothing is left
    EXPECT_EQ(std::ranges::count(fired, std::string(pass->name)) > 0, place) << pass->name;
    for (const auto& [name, want] : plain) {
      const auto& got = rewritten.at(name);
      std::vector<float> apart(want.size());
      for (std::size_t i = 0; i < want.size(); ++i) apart[i] = got[i] - want[i];
      // A single number is a sum over all positions that nearly cancels.
      const double bound = want.size() == 1 ? 0.15 : want.size() <= 8 ? 0.05 : 0.02;
      EXPECT_LE(norm(apart), bound * norm(want) + 1e-4) << pass->name << " " << name;
    }
    std::vector<std::string> again;
    EXPECT_EQ(run(s, some, gpu, again), rewritten) << pass->name << ": a second run has the same bytes";
  }
}

// Rows: less than a tile, a rest, tiles that begin within a window, more tiles than blocks; sums of 2 to 8
// steps; every number of turned columns; both slopes; with and without a value embedding, with and without
// gates (4, 2 and 2 KV heads of 2, 4 and 1 query heads).
INSTANTIATE_TEST_SUITE_P(Shapes, PassesOnGpu,
                         ::testing::Values(Sizes{1, 1, 128, 256},
                                           Sizes{7, 9, 512, 1536, {8, 4, 64}, 16, true},
                                           Sizes{5, 200, 192, 384, {4, 2, 64}, 32, true, 0.0f},
                                           Sizes{3, 1001, 256, 128, {2, 2, 64}, 64, false, 0.5f},
                                           Sizes{2, 65, 448, 1408, {6, 2, 64}, 16, false, 0.0f},
                                           Sizes{7, 97, 512, 1536, {8, 4, 64}, 16, true, 0.5f, 12},
                                           Sizes{3, 1001, 256, 128, {8, 2, 64}, 64, false, 0.5f, 16},
                                           Sizes{2, 65, 192, 384, {2, 2, 64}, 16, false, 0.0f, 5},
                                           Sizes{3, 99, 256, 1024, {4, 2, 64}, 16, false, 0.5f, 12, true}));

}  // namespace
}  // namespace fairway::graph
