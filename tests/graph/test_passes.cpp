// Passes fire where their pattern stands, say why they do not, and change no number but for roundings.
#include "fairway/graph/compute_weights.h"
#include "fairway/graph/passes.h"
#include "random_graph.h"

#include "fairway/ops/attention.h"
#include "fairway/ops/gates.h"
#include "fairway/ops/qkv.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fairway::graph {
namespace {

using namespace graph::testing;
using ::testing::ElementsAre;
using ::testing::HasSubstr;

constexpr std::int64_t B = 2, S = 3, D = 128, H = 256;

ParameterLayout layout() {
  ParameterLayout l;
  const auto matrix = [&](const char* name, std::int64_t out, std::int64_t in) {
    l.add({.name = name, .shape = {out, in}, .role = Role::mlp, .multiplied = true});
  };
  matrix("up", H, D), matrix("down", D, H), matrix("qkv", 4 * 64, D);
  l.add({.name = "scale", .shape = {D}, .group = Group::scalar});
  l.add({.name = "gain", .shape = {2}, .group = Group::scalar});
  l.finish();
  return l;
}

/// What a place that a pass looks at may have that keeps it from firing.
struct Form {
  tensor::DType dtype = tensor::DType::bf16;
  bool read_hidden = false;    ///< the host reads h
  bool second_reader = false;  ///< the normed rows have a reader besides the product
  bool scale_twice = false;    ///< the scale multiplies something else, too
  bool down_twice = false;     ///< the matrix is read a second time, without the scale
};

/// x + scale . (f(norm(x + x) up^T) down^T)
Graph mlp(const ParameterLayout& l, const Form& form, const Passes& passes) {
  Builder b("mlp", l, form.dtype, [](auto) { return true; });
  b.scope("mlp");
  const auto x = b.input("x", {form.dtype, {B * S, D}});
  const auto normed = b.op1<ops::RmsNorm>({x}, 0.5f, 1e-6f);
  const auto h = b.linear(normed, b.compute_weight("up"));
  if (form.read_hidden) b.output(h, "h");
  const auto branch = b.linear(b.op1<ops::LeakyReluSquared>({h}, 0.5f), b.compute_weight("down"));
  auto sum = b.op1<ops::ScaledResidual>({x, branch, b.parameter("scale")});
  if (form.second_reader) sum = b.op1<ops::Add>({sum, normed});
  if (form.scale_twice) sum = b.op1<ops::ScaledResidual>({sum, x, b.parameter("scale")});
  if (form.down_twice) {
    const auto wide = b.input("wide", {form.dtype, {B * S, H}});
    sum = b.op1<ops::Add>({sum, b.linear(wide, b.compute_weight("down"))});
  }
  if (form.dtype == tensor::DType::bf16) {  // of no loss
    b.output(sum, "sum");
    return b.finish(passes);
  }
  const auto weights = b.input("weights", {form.dtype, {B * S * D}});
  const auto loss = b.op1<ops::WeightedSum>({b.reshape(sum, {B * S * D}), weights});
  b.output(loss, "loss");
  return b.finish(passes, loss);
}

std::vector<std::string_view> names(const Graph& g) {
  std::vector<std::string_view> result;
  for (const auto& s : g.steps) result.push_back(s.op->name());
  return result;
}
/// Why a pass did not fire; "" where it did, "-" where it found no place.
std::string why(const Graph& g, std::string_view pass) {
  std::string text = "-";
  for (const auto& note : g.notes)
    if (note.pass == pass) text = note.missed;
  return text;
}

TEST(Passes, AnMlpBecomesThreeSteps) {
  const auto l = layout();
  EXPECT_THAT(names(mlp(l, {}, {})),
              ElementsAre("rms_norm", "matmul", "leaky_relu_squared", "matmul", "scaled_residual"));
  const auto fused = mlp(l, {}, all_passes());
  EXPECT_THAT(names(fused), ElementsAre("rms_norm", "linear_relu_squared", "relu_squared_linear_add"));
  EXPECT_EQ(fused.steps[0].out[0], absent) << "normed rows are not stored";
  for (const auto* pass : {"fold_scales", "fuse_mlp", "defer_norms"}) EXPECT_EQ(why(fused, pass), "") << pass;
  ASSERT_EQ(fused.folds.size(), 1u);
  EXPECT_EQ(fused.folds[0].weight, "down");
  EXPECT_EQ(fused.folds[0].scale, "scale");
  EXPECT_TRUE(fused.folds[0].trains);
}

TEST(Passes, SayWhyTheyDidNotFire) {
  const auto l = layout();
  EXPECT_EQ(why(mlp(l, {.read_hidden = true}, all_passes()), "fuse_mlp"),
            "the result of matmul is read by the host");
  EXPECT_EQ(why(mlp(l, {.second_reader = true}, all_passes()), "defer_norms"), "add reads the normed rows");
  EXPECT_EQ(why(mlp(l, {.dtype = tensor::DType::f32}, all_passes()), "fuse_mlp"),
            "its kernel does not take [6, 256] from [6, 128]");
  const auto twice = mlp(l, {.down_twice = true}, all_passes());
  EXPECT_EQ(why(twice, "fold_scales"), "'down' is read elsewhere without this scale");
  EXPECT_TRUE(twice.folds.empty());
  const auto shared = mlp(l, {.scale_twice = true}, all_passes());
  EXPECT_EQ(shared.notes[0].missed, "'scale' scales something else, too");
  EXPECT_TRUE(shared.folds.empty()) << "its gradient would be that of one use";
  EXPECT_EQ(why(twice, "fuse_mlp"), "") << "a product that nothing is added to will do";
}

TEST(Passes, HeadsAtOffsetsStayPlain) {
  const auto l = layout();
  const auto heads = [&](bool offset) {
    Builder b("heads", l, tensor::DType::bf16);
    const auto x = b.input("x", {tensor::DType::bf16, {B, S, D}});
    const auto at = offset ? b.input("offset", {tensor::DType::i32, {B}}) : absent;
    const auto rope = b.input("rope", {tensor::DType::f32, {S + 1, 16}});
    const auto out = b.op<ops::QkvPrepare>(
        {b.linear(x, b.compute_weight("qkv")), b.parameter("gain"), rope, at, absent, absent, absent},
        ops::HeadShape{2, 1, 64}, 16, 1e-6f, false);
    b.output(out[0], "q");
    return b.finish(all_passes());
  };
  EXPECT_THAT(why(heads(true), "fuse_heads"), HasSubstr("offsets"));
  EXPECT_THAT(why(heads(false), "fuse_heads"), HasSubstr("its kernel does not take heads of 64"))
      << "one key head: kernels take pairs";
}

TEST(Passes, GatesOfHeadsJoinTheXsaBeforeThem) {
  const auto l = layout();
  constexpr auto bf16 = tensor::DType::bf16;
  struct Gates {
    std::int64_t channels = 12;
    int heads = 8;
    bool xsa = true, read_between = false;
  };
  const auto gated = [&](const Gates& form) {
    const ops::HeadShape shape{form.heads, 4, 64};
    Builder b("gates", l, bf16);
    const auto o = b.input("o", {bf16, {B, S, form.heads, 64}}), v = b.input("v", {bf16, {B, S, 4, 64}}),
               n = b.input("n", {bf16, {B, S, D}}),
               w = b.input("w", {tensor::DType::f32, {form.heads, form.channels}});
    const auto y = form.xsa ? b.op1<ops::Xsa>({o, v}, shape) : o;
    if (form.read_between) b.output(y, "between");
    b.output(b.op1<ops::HeadGate>({y, n, w}, 0.5f, 1.0f), "y");
    return b.finish(all_passes());
  };
  EXPECT_THAT(names(gated({})), ElementsAre("gated_xsa"));
  EXPECT_EQ(why(gated({}), "fuse_gated_xsa"), "");
  EXPECT_EQ(why(gated({.channels = D}), "fuse_gated_xsa"),
            "its kernel does not take 128 channels for 4 of 8 heads");
  EXPECT_EQ(why(gated({.heads = 12}), "fuse_gated_xsa"),
            "its kernel does not take 12 channels for 4 of 12 heads");
  EXPECT_EQ(why(gated({.xsa = false}), "fuse_gated_xsa"), "what it opens does not come from xsa");
  EXPECT_EQ(why(gated({.read_between = true}), "fuse_gated_xsa"), "the result of xsa is read by the host");
  EXPECT_THAT(names(gated({.read_between = true})), ElementsAre("xsa", "head_gate"));
}

/// The rewritten graph against the plain one, in double.
TEST(Passes, FoldedScalesGiveTheSameGradients) {
  const auto l = layout();
  base::ThreadPool pool(2);
  const auto run = [&](const Passes& passes) {
    ParameterStore store(l, {}, true, tensor::DType::f64);
    fill_random<double>(store.flat_values(), 1, 0.5);
    Plan plan(store, {{}, base::best_isa(), {}, &pool});
    auto graph = mlp(l, {.dtype = tensor::DType::f64}, passes);
    Program* refresh = nullptr;
    if (!graph.folds.empty()) {
      store.add_compute_weights(tensor::DType::f64);
      refresh = &plan.add(build_refresh(l, tensor::DType::f64, graph.folds));
    }
    auto& unfold = plan.add(build_unfold(l, tensor::DType::f64, graph.folds));
    auto& program = plan.add(std::move(graph));
    plan.allocate();
    if (refresh) refresh->run();
    for (const auto* name : {"x", "weights"}) fill_random<double>(program.view(name), 3);
    program.run();
    if (refresh) unfold.run();
    std::vector<double> result = {program.view("loss").as<double>()[0]};
    const auto flat = store.flat_gradients().span<double>();
    result.insert(result.end(), flat.begin(), flat.end());
    return result;
  };
  const auto plain = run({}), folded = run(all_passes());
  double norm = 0;
  for (std::size_t i = 0; i < plain.size(); ++i) {
    norm += std::abs(plain[i]);
    ASSERT_NEAR(folded[i], plain[i], 1e-11 * (1 + std::abs(plain[i]))) << i;
  }
  EXPECT_GT(norm, 1);
}

TEST(Passes, AnActivationMadeAgainIsTheSameAndNotKept) {
  const auto l = layout();
  base::ThreadPool pool(1);
  const Passes all = all_passes();
  const auto again = std::ranges::find(all, std::string_view("recompute_activations"), &Pass::name);
  ASSERT_NE(again, all.end());
  std::vector<std::vector<std::byte>> gradients;
  for (const auto& passes : {Passes{}, Passes{*again}}) {
    ParameterStore store(l, {}, true);
    fill_random<float>(store.flat_values(), 1, 0.5);
    Plan plan(store, {{}, base::best_isa(), {}, &pool});
    auto graph = mlp(l, {.dtype = tensor::DType::f32}, passes);
    EXPECT_EQ(why(graph, "recompute_activations"), passes.empty() ? "-" : "");
    EXPECT_EQ(std::ranges::count(names(graph), "leaky_relu_squared"), passes.empty() ? 1 : 2);
    const auto act = std::ranges::find(graph.steps, "leaky_relu_squared", [](const Step& s) {
                       return s.op->name();
                     })->out[0];
    for (const auto& s : graph.steps)
      if (std::ranges::find(s.in, act) != s.in.end()) {
        EXPECT_TRUE(passes.empty() || !s.is_backward) << s.op->name();
      }
    auto& program = plan.add(std::move(graph));
    plan.allocate();
    for (const auto* name : {"x", "weights"}) fill_random<float>(program.view(name), 3);
    program.run();
    const auto flat = std::as_bytes(store.flat_gradients().span<float>());
    gradients.emplace_back(flat.begin(), flat.end());
  }
  EXPECT_EQ(gradients[0], gradients[1]);
}

TEST(Passes, ProgramsOfAPlanAgreeOnWhatAComputeWeightHolds) {
  const auto l = layout();
  base::ThreadPool pool(1);
  ParameterStore store(l, {}, true);
  store.add_compute_weights(tensor::DType::f32);
  Plan plan(store, {{}, base::best_isa(), {}, &pool});
  const Form wide{.dtype = tensor::DType::f32};
  plan.add(mlp(l, wide, all_passes()));
  EXPECT_THROW(plan.add(mlp(l, wide, {})), base::Error) << "it would read scaled weights and scale again";
  EXPECT_THROW(plan.add(build_refresh(l, tensor::DType::f32, {})), base::Error);
}

TEST(Passes, ScaledComputeWeightsNeedAPlace) {
  const auto l = layout();
  base::ThreadPool pool(1);
  ParameterStore store(l, {}, true);
  Plan plan(store, {{}, base::best_isa(), {}, &pool});
  plan.add(mlp(l, {.dtype = tensor::DType::f32}, all_passes()));
  EXPECT_THROW(plan.allocate(), base::Error);
}

TEST(Builder, RefusesTwoStatesOfOneName) {
  const auto l = layout();
  Builder b("states", l, tensor::DType::f32);
  b.state("cache", {tensor::DType::f32, {4}});
  EXPECT_THROW(b.state("cache", {tensor::DType::f32, {4}}), base::Error);
}

}  // namespace
}  // namespace fairway::graph
