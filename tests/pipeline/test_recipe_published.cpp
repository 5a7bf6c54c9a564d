// The recipes of published systems, value by value: docs/spec/model.md section 12,
// docs/spec/training.md section 13, docs/spec/quantization.md section 7, docs/spec/evaluation.md section 3.
#include "fairway/pipeline/recipe/recipe.h"

#include <gmock/gmock.h>

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <algorithm>

namespace fairway::pipeline {
namespace {

struct Published {
  const char* name;
  const char* activation;
  int ve_dim;
  std::vector<int> ve_layers, xsa_layers;
  int steps, warmdown, log_every, validate_every;
  const char* average;
  double qat_below;  ///< 0: no switch
  const char* matrix;
  double prune;
  int stride;
};

class PublishedRecipe : public ::testing::TestWithParam<Published> {};

TEST_P(PublishedRecipe, HasTheValuesOfItsRun) {
  const auto& p = GetParam();
  const auto r = load_recipe(p.name).recipe;
  EXPECT_EQ(r.name, p.name);
  EXPECT_EQ(r.seed, 1337);

  const auto& m = r.model;
  EXPECT_EQ(std::tuple(m.vocab_size, m.layers, m.width, m.heads, m.kv_heads, m.window),
            std::tuple(1024, 11, 512, 8, 4, 2048));
  EXPECT_EQ(m.mlp_mult, 3.0);
  EXPECT_EQ(base::name_of(m.activation), p.activation);
  EXPECT_EQ(m.leaky_slope, 0.5f);
  EXPECT_EQ(std::tuple(m.rope_dims, m.rope_rescale_length), std::tuple(16, 1024));
  EXPECT_EQ(m.rope_base, 10000.0);
  EXPECT_TRUE(m.ln_scale && m.unet_skips && m.smear);
  EXPECT_EQ(std::tuple(m.bigram_rows, m.bigram_dim), std::tuple(2048, 128));
  EXPECT_EQ(m.ve_dim, p.ve_dim);
  EXPECT_EQ(m.ve_layers, p.ve_layers);
  EXPECT_EQ(m.xsa_layers, p.xsa_layers);
  EXPECT_EQ(m.softcap, 30.0);
  EXPECT_EQ(m.matrix_init, model::MatrixInit::orthogonal);

  const auto& o = r.optim;
  EXPECT_EQ(std::tuple(o.matrix_lr, o.scalar_lr, o.embedding_lr), std::tuple(0.025, 0.025, 0.035));
  EXPECT_EQ(std::tuple(o.muon_momentum.start, o.muon_momentum.end, o.muon_momentum.steps, o.ns_steps),
            std::tuple(0.92, 0.99, 1500, 5));
  EXPECT_EQ(std::tuple(o.muon_weight_decay, o.adam_weight_decay, o.grad_clip), std::tuple(0.04, 0.04, 0.3));
  EXPECT_EQ(std::tuple(o.beta1, o.beta2, o.eps), std::tuple(0.9, 0.95, 1e-8));
  EXPECT_EQ(std::tuple(o.embeddings, o.ns_dtype), std::tuple(tensor::DType::bf16, tensor::DType::bf16));

  const auto& t = r.train;
  EXPECT_EQ(t.batch_tokens, 786'432);
  EXPECT_EQ(r.data.slices, 8);
  EXPECT_TRUE(t.by_clock());
  EXPECT_EQ(t.seconds, 600.0);
  EXPECT_EQ(std::tuple(t.steps, t.warmdown_steps), std::tuple(p.steps, p.warmdown));
  EXPECT_EQ(std::tuple(t.log_every, t.validate_every), std::tuple(p.log_every, p.validate_every));
  EXPECT_EQ(t.products, tensor::DType::bf16);

  EXPECT_EQ(base::name_of(r.average.kind), p.average);
  EXPECT_EQ(std::tuple(r.average.decay, r.average.start, r.average.dtype),
            std::tuple(0.997, 0, tensor::DType::f32));
  EXPECT_EQ(std::tuple(r.average.swa_every, r.average.swa_below, r.average.swa_min), std::tuple(50, 0.2, 2));

  EXPECT_EQ(r.qat.any(), p.qat_below > 0);
  if (r.qat.any()) {
    EXPECT_EQ(std::tuple(r.qat.attention, r.qat.mlp, r.qat.other), std::tuple(6, 6, 6));
    EXPECT_EQ(std::tuple(r.qat.below, r.qat.last_fraction), std::tuple(p.qat_below, 0.0));
    EXPECT_TRUE(r.qat.inert) << "it was compiled away";
  }

  const auto& q = r.quant.policy;
  EXPECT_EQ(std::tuple(q.attention->name, q.table->name), std::tuple(p.matrix, "int8"));
  EXPECT_EQ(q.passthrough_limit, 65'536);
  EXPECT_EQ(std::tuple(r.quant.coder, r.quant.level, q.prune.share),
            std::tuple(artifact::Coder::zstd, 22, p.prune));
  EXPECT_EQ(std::tuple(r.score.stride, r.score.tail, r.score.rule),
            std::tuple(p.stride, score::Tail::published, text::ByteRule::challenge));
  EXPECT_EQ(std::tuple(r.budget.train_seconds, r.budget.eval_seconds, r.budget.artifact_bytes),
            std::tuple(600.0, 600.0, 16'000'000));
}

const std::vector<int> kVe = {9, 10}, kXsa = {7, 8, 9, 10}, kNone = {};
INSTANTIATE_TEST_SUITE_P(Systems, PublishedRecipe,
                         ::testing::Values(Published{"two_phase_ttt", "relu_square", 128, kVe, kXsa, 20000,
                                                     3000, 500, 4000, "swa", 0.1, "int6_rowmax", 0.02, 32},
                                           Published{"ema_ttt20", "relu_square", 0, kNone, kNone, 9000, 3000,
                                                     200, 1000, "ema", 0, "int6_rowmax", 0, 64},
                                           Published{"streaming_min3", "leaky_square", 128, kVe, kXsa, 20000,
                                                     3500, 500, 4000, "ema", 0.15, "int6_search", 0, 0},
                                           Published{"cosine_ttt50", "leaky_square", 128, kVe, kXsa, 20000,
                                                     3500, 500, 4000, "ema", 0.15, "int6_search", 0, 64},
                                           Published{"rec", "relu_square", 128, kVe, kXsa, 20000, 3500, 500,
                                                     4000, "ema", 0.15, "int6_search", 0, 64}),
                         [](const auto& test) { return std::string(test.param.name); });

/// docs/spec/caseops_training.md section 1, docs/spec/caseops_quantization.md section 1,
/// docs/spec/leaders.md.
struct CaseOps {
  const char* name;
  int vocab_size, layers;
  std::vector<int> parallel_layers;
  model::Parallel parallel;
  double q_gain, gate_scale, matrix_lr, momentum_end, adam_weight_decay, reserve;
  optim::Clip clip;
  bool documents;
  const char *matrix, *gates, *key_rule;
  double clip_attention, clip_mlp;
  quant::Rotation rotation;
  int lqer_group, batches, window, stride;
};

class CaseOpsRecipe : public ::testing::TestWithParam<CaseOps> {};

TEST_P(CaseOpsRecipe, HasTheValuesOfItsRun) {
  const auto& p = GetParam();
  const auto r = load_recipe(p.name).recipe;
  const auto& m = r.model;
  EXPECT_EQ(std::tuple(m.vocab_size, m.layers, m.width, m.heads, m.kv_heads, m.window, m.mlp_mult),
            std::tuple(p.vocab_size, p.layers, 512, 8, 4, 2048, 4.0));
  EXPECT_EQ(std::tuple(m.loop_layers, m.loop_runs), std::tuple(std::vector<int>{3, 4, 5}, 3));
  EXPECT_EQ(std::tuple(m.parallel_layers, m.parallel), std::tuple(p.parallel_layers, p.parallel));
  EXPECT_FLOAT_EQ(m.q_gain_init, static_cast<float>(p.q_gain));
  EXPECT_FLOAT_EQ(m.attn_gate_scale, static_cast<float>(p.gate_scale));
  EXPECT_EQ(std::tuple(m.smear_channels, m.attn_gate_channels, m.documents, r.train.packed),
            std::tuple(12, 12, p.documents, p.documents));

  const auto& o = r.optim;
  EXPECT_EQ(std::tuple(o.matrix_lr, o.embedding_lr, o.scalar_lr), std::tuple(p.matrix_lr, 0.03, 0.02));
  EXPECT_EQ(std::tuple(o.muon_momentum.start, o.muon_momentum.end, o.muon_momentum.steps),
            std::tuple(0.92, p.momentum_end, 1500));
  EXPECT_EQ(std::tuple(o.muon_weight_decay, o.adam_weight_decay, o.grad_clip, o.clip),
            std::tuple(0.095, p.adam_weight_decay, 0.3, p.clip));
  EXPECT_TRUE(o.muon_row_norm);

  const auto& t = r.train;
  EXPECT_EQ(std::tuple(t.batch_tokens, t.seconds, t.reserve_seconds), std::tuple(786'432, 600.0, p.reserve));
  EXPECT_EQ(std::tuple(t.loop_start, t.warmdown_fraction, t.lr_floor), std::tuple(0.35, 0.85, 0.1));
  EXPECT_EQ(r.average.decay, 0.9965);
  EXPECT_FALSE(r.qat.any());

  const auto& q = r.quant;
  EXPECT_EQ(std::tuple(q.policy.attention->name, q.policy.table->name),
            std::tuple(std::string_view(p.matrix), std::string_view("int7_gptq")));
  EXPECT_EQ(q.policy.gate ? q.policy.gate->name : "", p.gates);
  EXPECT_EQ(std::tuple(q.policy.attention_clip, q.policy.mlp_clip, q.policy.table_clip),
            std::tuple(p.clip_attention, p.clip_mlp, 14.0));
  EXPECT_EQ(std::tuple(q.policy.rotation, q.policy.lqer.tensors, q.policy.lqer.rank, q.policy.lqer.group),
            std::tuple(p.rotation, 3, 4, p.lqer_group));
  EXPECT_EQ(std::ranges::count(q.rules, fmt::format("*.attn.c_k.weight={}", p.key_rule)),
            *p.key_rule ? 1 : 0);
  EXPECT_EQ(std::tuple(q.policy.passthrough_limit, q.calibration_batches, r.score.window, r.score.stride),
            std::tuple(65'536, p.batches, p.window, p.stride));
  EXPECT_EQ(std::tuple(q.groups, q.shuffle, q.coder, q.level),
            std::tuple(p.documents, p.documents ? 1 : 2, artifact::Coder::brotli, 11));
  EXPECT_EQ(r.score.tail, score::Tail::clean);
}

const std::vector<int> kLanes = {8, 9, 10};
INSTANTIATE_TEST_SUITE_P(
    Systems, CaseOpsRecipe,
    ::testing::Values(CaseOps{"caseops",
                              12288,
                              12,
                              {7, 8, 9, 10, 11},
                              model::Parallel::sum,
                              5.25,
                              1.0,
                              0.026,
                              0.99,
                              0.095,
                              4.0,
                              optim::Clip::global,
                              false,
                              "int5_gptq",
                              "",
                              "int6_gptq",
                              12.85,
                              12.85,
                              quant::Rotation::hadamard,
                              64,
                              16,
                              0,
                              64},
                      CaseOps{"caseops_leader",
                              8192,
                              11,
                              kLanes,
                              model::Parallel::lanes,
                              5.0,
                              0.5,
                              0.026,
                              0.97,
                              0.085,
                              0.5,
                              optim::Clip::rank,
                              true,
                              "int6_gptq",
                              "int8_absmax",
                              "",
                              13.0,
                              11.5,
                              quant::Rotation::none,
                              64,
                              16,
                              0,
                              0},
                      CaseOps{"caseops_2135", 8192, 11,    kLanes, model::Parallel::lanes, 5.0,  0.5,
                              0.028,          0.97, 0.085, 7.5,    optim::Clip::rank,      true, "int6_gptq",
                              "int8_absmax",  "",   13.0,  11.5,   quant::Rotation::none,  32,   32,
                              2560,           0}),
    [](const auto& test) { return std::string(test.param.name); });

}  // namespace
}  // namespace fairway::pipeline
