// What passes and slots make of a member of the family.

#include <gtest/gtest.h>

#include <map>

#include "fairway/graph/compute_weights.h"
#include "model/small_family.h"

namespace fairway::testing {
namespace {

class FamilyPrograms : public Family {};

/// A program for a GPU is built anywhere.
model::BuildOptions for_a_gpu() {
  model::BuildOptions options;
  options.dtype = tensor::DType::bf16;
  options.passes = graph::all_passes();
  return options;
}
/// Shapes that all kernels of passes take.
ModelConfig wide() {
  auto c = small();
  c.width = 256;
  c.heads = 4;
  c.kv_heads = 2;
  c.rope_dims = 16;
  return c;
}

TEST_F(FamilyPrograms, FusedProgramsStoreNoNormedRowsAndNoRawProjections) {
  const auto c = wide();
  graph::ParameterStore store(model::make_layout(c), {}, true);
  int mixes = 0, norms = 0;
  const auto graph = model::build(c, store.layout(), for_a_gpu());
  for (const auto& s : graph.steps) {
    const auto name = s.op->name();
    EXPECT_NE(name, "qkv_prepare") << s.scope;
    EXPECT_NE(name, "leaky_relu_squared") << s.scope;
    if (name == "mix_norm") {
      ++mixes;
      EXPECT_EQ(s.out[1], graph::absent) << s.scope;
    }
    if (name == "rms_norm" && s.in.size() > 1) {
      ++norms;
      EXPECT_EQ(s.out[0], graph::absent) << s.scope;
      EXPECT_NE(s.in[1], graph::absent) << s.scope << ": squares come with the sum before";
    }
  }
  EXPECT_EQ(mixes, c.layers);
  EXPECT_EQ(norms, c.layers);
  std::map<std::string, int> fired;
  for (const auto& note : graph.notes) fired[note.pass] += note.missed.empty();
  EXPECT_EQ(fired["fold_scales"], 2 * c.layers);
  EXPECT_EQ(fired["fuse_mlp"], c.layers);
  EXPECT_EQ(fired["fuse_heads"], c.layers);
  EXPECT_EQ(fired["defer_norms"], 2 * c.layers);
  EXPECT_EQ(fired["residual_norm"], 0);
}

TEST_F(FamilyPrograms, WhereAKernelDoesNotFitThePlainStepsStay) {
  const auto c = small();  // heads of 8, 48 columns
  graph::ParameterStore store(model::make_layout(c), {}, true);
  const auto graph = model::build(c, store.layout(), for_a_gpu());
  std::map<std::string_view, int> steps;
  for (const auto& s : graph.steps) steps[s.op->name()] += !s.is_backward;
  EXPECT_EQ(steps["qkv_prepare"], c.layers);
  EXPECT_EQ(steps["leaky_relu_squared"], c.layers);
  EXPECT_EQ(steps["linear_add"], 2 * c.layers);
  for (const auto* fused : {"qkv_product", "linear_relu_squared", "relu_squared_linear_add"})
    EXPECT_EQ(steps[fused], 0) << fused;
  int missed = 0;
  for (const auto& note : graph.notes)
    if (note.pass == "fuse_heads") {
      ++missed;
      EXPECT_NE(note.missed.find("heads of 8"), std::string::npos) << note.missed;
    }
  EXPECT_EQ(missed, c.layers);
}

TEST_F(FamilyPrograms, FusedHeadsMakeNoGradientThatNobodyReads) {
  const auto c = wide();
  graph::ParameterStore store(model::make_layout(c), {}, true);
  auto options = for_a_gpu();
  options.trainable = [](std::string_view name) { return name == "blocks.3.attn.q_gain"; };
  int backward = 0;
  for (const auto& s : model::build(c, store.layout(), options).steps)
    if (s.op->name() == "qkv_backward") {
      ++backward;
      EXPECT_EQ(s.out[0], graph::absent) << "the projection's";
      EXPECT_NE(s.out[1], graph::absent) << "the gain's";
    }
  EXPECT_EQ(backward, 1);
}

TEST_F(FamilyPrograms, AFrozenMatrixGetsAGradientForItsScalesSake) {
  const auto c = small();
  graph::ParameterStore store(model::make_layout(c), {}, true);
  auto options = for_a_gpu();
  options.trainable = [](std::string_view name) { return name == "blocks.3.mlp_scale"; };
  const auto graph = model::build(c, store.layout(), options);
  for (const auto& fold : graph.folds)
    EXPECT_EQ(fold.trains, fold.scale == "blocks.3.mlp_scale") << fold.weight;
  const auto unfold = graph::build_unfold(store.layout(), options.dtype, graph.folds);
  ASSERT_EQ(unfold.steps.size(), 1u);
  EXPECT_EQ(unfold.steps[0].scope, "blocks.3.mlp.proj.weight");
}

/// A layer that runs three times is three slots: its weights once, its caches and depths three times.
TEST_F(FamilyPrograms, ALayerCanRunThreeTimes) {
  auto c = small();
  c.layers = 2;
  c.unet_skips = false;
  c.ve_layers = {1};
  c.xsa_layers = {1};
  auto store = disturbed(c);
  const std::vector<model::Slot> thrice = {{.layer = 0, .depth = 0, .cache = "first"},
                                           {.layer = 1, .depth = 1, .cache = "second"},
                                           {.layer = 1, .depth = 2, .cache = "third"},
                                           {.layer = 1, .depth = 3, .last = true, .cache = "fourth"}};
  // The same model with the layer written out three times.
  auto copies = c;
  copies.layers = 4;
  copies.ve_layers = {1, 2, 3};
  copies.xsa_layers = {1, 2, 3};
  graph::ParameterStore written(model::make_layout(copies), {}, false);
  for (const auto& p : written.layout().parameters()) {
    auto name = p.name;
    for (const auto* block : {"blocks.2.", "blocks.3."})
      if (name.starts_with(block)) name.replace(0, 9, "blocks.1.");
    if (name.starts_with("ve_layer_scales.")) name = "ve_layer_scales.0";
    std::ranges::copy(store.value(name).span<float>(), written.value(p.name).span<float>().begin());
  }
  const auto ids = tokens(c.window, c.vocab_size);
  const auto logits = [&](const ModelConfig& config, graph::ParameterStore& weights,
                          model::BuildOptions options) {
    graph::Plan plan(weights, runtime_on(pool_));
    options.mode = model::Mode::logits;
    auto& whole = plan.add(model::build(config, weights.layout(), options));
    options.mode = model::Mode::decode;
    options.length = c.window;
    auto& decode = plan.add(model::build(config, weights.layout(), options));
    plan.allocate();
    const auto put = [&](graph::Program& program) {
      std::ranges::copy(ids, program.view("tokens").span<std::int32_t>().begin());
    };
    put(whole);
    whole.run();
    const auto values = whole.view("logits").span<float>();
    std::vector<float> all(values.begin(), values.end());
    put(decode);
    decode.fill("length", 0);
    decode.fill("previous", -1);
    plan.zero_state(model::previous_norm_state);
    decode.run();
    const auto last = decode.view("logits").span<float>();
    EXPECT_LE(max_relative(last, std::span(all).last(last.size())), 1e-4) << "each slot has its own cache";
    return all;
  };
  model::BuildOptions slots;
  slots.slots = thrice;
  EXPECT_EQ(logits(c, store, slots), logits(copies, written, {}));
  slots.mode = model::Mode::decode;
  slots.length = 1;
  slots.slots[2].cache = "second";
  EXPECT_THROW(model::build(c, store.layout(), slots), base::Error) << "two slots on one cache";
}

}  // namespace
}  // namespace fairway::testing
