// Weights through every rule, coder and file and back.
#include "stages.h"

#include "fairway/pipeline/stages/packing.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fairway::pipeline {
namespace {

using namespace testing;
using ::testing::HasSubstr;

/// One corpus for all tests of this file.
struct Scene {
  explicit Scene(const std::vector<std::string>& more)
      : recipe(small_recipe(more)),
        corpus(prepare_corpus(small_recipe(), engine)),
        model(fresh_model(recipe, corpus.tokenizer, engine)) {
    for (auto& v : model.weights->flat_values().span<float>()) v *= 9.0f;  // beyond the floor of the grids
  }
  artifact::Artifact pack(const Measured& measured = {}) {
    return make_artifact(recipe, *model.weights, corpus.tokenizer, corpus.manifest, engine, measured);
  }
  Engine engine{with_threads(2)};
  Recipe recipe;
  Corpus corpus;
  OpenModel model;
};

TEST(Packing, WhatIsLoadedIsExactlyTheGrid) {
  for (const auto& rule : quant::rule_names()) {
    if (!quant::find_rule("quant.matrix", rule).quantize) continue;  // Gptq, below
    Scene s({"quant.matrix=" + rule, "quant.table=" + rule, "quant.passthrough_limit=0"});
    const auto packed = s.pack();
    for (const auto coder : artifact::all_coders()) {
      const auto bytes = artifact::encode_artifact(packed, {coder, 3});
      const auto loaded = from_artifact(artifact::decode_artifact(bytes, "x"), "x");
      for (const auto& p : s.model.weights->layout().parameters()) {
        const auto before = s.model.weights->value(p.name).span<const float>();
        const auto q =
            quant::find_rule("quant.matrix", rule).quantize(p.name, before, p.shape, s.engine.pool());
        std::vector<float> expected(before.size());
        quant::dequantize(q, expected, s.engine.pool());
        const auto after = loaded.weights->value(p.name).span<const float>();
        ASSERT_TRUE(std::ranges::equal(after, expected))
            << p.name << " by " << rule << " and " << artifact::coder_name(coder);
      }
    }
  }
}

TEST(Packing, RolesPatternsAndLimits) {
  Scene s({"quant.matrix=int6_search", "quant.mlp=int5_rowmax",
           "quant.rules=[\"blocks.1.attn.c_q.*=fp16\", \"tok_emb.*=int7_rowmax\"]"});
  const auto packed = s.pack();
  const auto kind = [&](const char* name) { return packed.find(name)->kind; };
  EXPECT_EQ(kind("blocks.0.attn.c_q.weight"), artifact::TensorKind::int6);
  EXPECT_EQ(kind("blocks.1.attn.c_q.weight"), artifact::TensorKind::f16);
  EXPECT_EQ(kind("blocks.1.mlp.fc.weight"), artifact::TensorKind::int5);
  EXPECT_EQ(kind("tok_emb.weight"), artifact::TensorKind::int8) << "seven bits are stored as eight";
  EXPECT_LE(std::ranges::max(packed.find("tok_emb.weight")->q), 63);
  EXPECT_EQ(kind("blocks.0.attn_scale"), artifact::TensorKind::f16);
}

TEST(Packing, GuidedBitsNeedWhatTrainingCollected) {
  Scene s({"quant.guided_high=0.25", "quant.guided_low=0.25"});
  EXPECT_THAT(input_error([&] { s.pack(); }), HasSubstr("quant.guided_high = 0.25"));
  quant::Sensitivity sensitivity;
  for (const char* name : {"blocks.0.mlp.fc.weight", "blocks.0.mlp.proj.weight", "blocks.1.mlp.fc.weight",
                           "blocks.1.mlp.proj.weight"})
    sensitivity[name] = static_cast<double>(sensitivity.size() + 1);
  const auto read = parse_sensitivity(sensitivity_text(sensitivity), "x");
  EXPECT_EQ(read, sensitivity);
  const auto packed = s.pack({read});
  EXPECT_EQ(packed.find("blocks.0.mlp.fc.weight")->kind, artifact::TensorKind::int5);
  EXPECT_EQ(packed.find("blocks.0.mlp.proj.weight")->kind, artifact::TensorKind::int6);
  EXPECT_EQ(packed.find("blocks.1.mlp.proj.weight")->kind, artifact::TensorKind::int8) << "seven bits";
  for (const char* bad : {"", "[]", "{\"a\": \"b\"}", "{"})
    EXPECT_THAT(input_error([&] { parse_sensitivity(bad, "x"); }), HasSubstr("x: 'sensitivity'"));
}

TEST(Packing, BadRulesAreErrorsOfTheRecipe) {
  EXPECT_THAT(input_error([] { small_recipe({"quant.rules=[\"tok_emb\"]"}); }),
              HasSubstr("quant.rules: 'tok_emb' is not PATTERN=RULE"));
  EXPECT_THAT(input_error([] { small_recipe({"quant.rules=[\"a=int9\"]"}); }), HasSubstr("unknown rule"));
  EXPECT_THAT(input_error([] {
                small_recipe({"quant.guided_high=0.7", "quant.guided_low=0.7"});
              }),
              HasSubstr("more than all matrices"));
  EXPECT_THAT(input_error([] { small_recipe({"quant.coder=brotly"}); }), HasSubstr("did you mean 'brotli'"));
}

TEST(Gptq, IsCalibratedOnTheTrainingText) {
  const std::vector<std::string> set = {"quant.matrix=int5_gptq",       "quant.table=int7_gptq",
                                        "model.bigram_rows=0",          "model.ve_dim=0",
                                        "model.ve_layers=[]",           "quant.calibration_batches=2",
                                        "quant.calibration_tokens=1024"};
  Scene s(set);
  const auto& layout = s.model.weights->layout();
  EXPECT_TRUE(needs_hessians(s.recipe, layout));
  EXPECT_FALSE(needs_hessians(Scene({}).recipe, layout));
  EXPECT_THAT(input_error([&] { s.pack(); }), HasSubstr("tok_emb.weight: int7_gptq needs the Hessian"));
  const auto calibrated = [&](const Recipe& recipe) {
    return Measured{{}, calibrate(recipe, *s.model.weights, s.corpus.train, s.engine)};
  };
  const auto measured = calibrated(s.recipe);
  const auto packed = s.pack(measured);
  EXPECT_EQ(packed.find("blocks.0.mlp.fc.weight")->kind, artifact::TensorKind::int5);
  EXPECT_EQ(s.pack(calibrated(s.recipe)).find("blocks.1.mlp.proj.weight")->q,
            packed.find("blocks.1.mlp.proj.weight")->q);
  // What is lost of the products is less than by rounding on the same grid: tr(E H E^T).
  const auto lost = [&](const artifact::Artifact& a, const char* name) {
    const auto loaded = from_artifact(a, "x");
    const auto w = s.model.weights->value(name).span<const float>(),
               q = loaded.weights->value(name).span<const float>();
    const auto& h = measured.hessians.at(name);
    const auto n = static_cast<std::size_t>(layout.find(name).shape.columns());
    double sum = 0;
    for (std::size_t row = 0; row < w.size(); row += n)
      for (std::size_t i = 0; i < n; ++i)
        for (std::size_t j = 0; j < n; ++j)
          sum += double{w[row + i] - q[row + i]} * h[i * n + j] * (w[row + j] - q[row + j]);
    return sum;
  };
  auto rounding = measured;
  for (auto& [name, h] : rounding.hessians) {
    const auto n = static_cast<std::size_t>(layout.find(name).shape.columns());
    std::ranges::fill(h, 0.0f);
    for (std::size_t i = 0; i < n; ++i) h[i * n + i] = 1;
  }
  const auto rounded = s.pack(rounding);
  for (const char* name : {"blocks.0.attn.c_q.weight", "blocks.1.mlp.fc.weight", "tok_emb.weight"})
    EXPECT_LT(lost(packed, name), 0.9 * lost(rounded, name)) << name;
  for (const auto* key : {"quant.calibration_batches=1", "quant.calibration_tokens=512"}) {
    auto other = set;
    other.push_back(key);
    EXPECT_NE(calibrated(Scene(other).recipe).hessians, measured.hessians) << key;
  }
}

TEST(Gptq, WhatIsPutBackIsLoadedAgain) {
  const std::vector<std::string> set = {
      "quant.matrix=int5_gptq",      "model.bigram_rows=0",    "model.ve_dim=0",  "model.ve_layers=[]",
      "quant.calibration_batches=1", "quant.clip_attention=4", "quant.clip_mlp=4"};
  const auto with = [&](std::vector<std::string> more) {
    more.insert(more.end(), set.begin(), set.end());
    Scene s(more);
    const auto packed = s.pack({{}, calibrate(s.recipe, *s.model.weights, s.corpus.train, s.engine)});
    const auto bytes = artifact::encode_artifact(packed, {artifact::Coder::zstd, 3});
    const auto loaded = from_artifact(artifact::decode_artifact(bytes, "x"), "x");
    std::map<std::string, double> lost;
    for (const auto& p : s.model.weights->layout().parameters()) {
      const auto w = s.model.weights->value(p.name).span<const float>();
      const auto back = loaded.weights->value(p.name).span<const float>();
      for (std::size_t i = 0; i < w.size(); ++i) lost[p.name] += std::pow(double{w[i]} - back[i], 2);
    }
    return std::pair(packed, lost);
  };
  const auto [plain, lost] = with({});
  const auto [put_back, less] = with({"quant.lqer_tensors=2", "quant.lqer_rank=8"});
  const auto [groups, finer] = with({"quant.awq_groups=1", "quant.awq_columns=32"});
  int corrected = 0, picked = 0;
  for (const auto& t : put_back.tensors) {
    const auto name = t.name;
    corrected += t.correction.rank > 0;
    EXPECT_LE(less.at(name), (t.correction.rank > 0 ? 0.9 : 1.0) * lost.at(name)) << name;
    const auto& g = groups.find(name)->correction;
    picked += !g.group_starts.empty();
    if (!g.group_starts.empty()) {
      EXPECT_LT(finer.at(name), 0.95 * lost.at(name)) << name;
      EXPECT_EQ(groups.find(name)->kind, artifact::TensorKind::int8);
    }
  }
  EXPECT_EQ(corrected, 2);
  EXPECT_EQ(picked, 1);
  const auto turned_lost = with({"model.mlp_mult=2"}).second;
  const auto [rotated, turned] = with({"model.mlp_mult=2", "quant.rotate=hadamard"});
  for (const auto& [name, error] : turned_lost) {
    const auto* t = rotated.find(name);
    EXPECT_EQ(t->correction.rotated, t->kind == artifact::TensorKind::int5) << name;
    EXPECT_LT(turned.at(name), 2 * error + 1e-9) << name << ": not read back in its basis";
  }
}

TEST(Packing, GatesOfHeadsHaveARuleOfTheirOwn) {
  const char* gate = "blocks.0.attn.attn_gate_w";
  const auto stored = [&](const std::string& rule, int channels) {
    Scene s({"model.attn_gate=sigmoid", "quant.gates=" + rule,
             fmt::format("model.attn_gate_channels={}", channels)});
    for (const auto& p : s.model.weights->layout().parameters())
      if (p.name == gate) std::ranges::fill(s.model.weights->value(p.name).span<float>(), 0.25f);
    return *s.pack().find(gate);
  };
  const auto coded = stored("int8_absmax", 16);  // 2 heads: 32 elements
  EXPECT_EQ(coded.kind, artifact::TensorKind::int8);
  EXPECT_EQ(coded.q.front(), 127);
  EXPECT_EQ(coded.scales.front().bits, tensor::to_f16(0.25f / 127).bits);
  EXPECT_EQ(stored("int8_absmax", 15).kind, artifact::TensorKind::f16) << "too small";
  EXPECT_EQ(stored("table", 16).kind, artifact::TensorKind::f16);
}

TEST(Packing, RulesThatCannotBeFollowedAreToldBeforeTraining) {
  EXPECT_THAT(input_error([] { small_recipe({"quant.table=int7_gptq"}); }),
              HasSubstr("bigram.embed.weight would be stored by int7_gptq, which needs the Hessian"));
  EXPECT_THAT(input_error([] {
                small_recipe({"quant.matrix=int6_gptq", "quant.rotate=hadamard", "model.mlp_mult=3"});
              }),
              HasSubstr("needs rows of a power of two, and these are 192 wide"));
  for (const auto* key : {"quant.awq_groups=1", "quant.lqer_tensors=3", "quant.rotate=hadamard"})
    EXPECT_THAT(input_error([&] { small_recipe({key}); }),
                HasSubstr("no tensor is quantised by a rule int*_gptq"));
}

}  // namespace
}  // namespace fairway::pipeline
