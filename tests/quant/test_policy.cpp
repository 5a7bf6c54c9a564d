#include "fairway/quant/policy.h"
#include "quant/named.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/base/random.h"

namespace fairway::quant {
namespace {

using ::testing::HasSubstr;

std::string error_of(auto&& body) {
  try {
    body();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::input);
    return error.what();
  }
  return "";
}

TEST(Policy, FollowsThePublishedTable) {
  const auto policy = policy_with("int6_rowmax");
  const auto rule = [&](const char* name, std::int64_t n) { return policy.rule_for(named(name, n)).name; };
  for (const char* name : {"blocks.0.attn.c_q.weight", "blocks.10.attn.proj.weight", "blocks.3.mlp.fc.weight",
                           "blocks.3.mlp.proj.weight"})
    EXPECT_EQ(rule(name, 131'072), "int6_rowmax") << name;
  EXPECT_EQ(rule("tok_emb.weight", 524'288), "int8");
  EXPECT_EQ(rule("bigram.embed.weight", 262'144), "int8");
  EXPECT_EQ(rule("ve_shared.embed.weight", 131'072), "int8");
  EXPECT_EQ(rule("bigram.proj.weight", 65'536), "fp16") << "exactly at the limit";
  EXPECT_EQ(rule("ve_shared.proj.weight", 32'768), "fp16");
  EXPECT_EQ(rule("blocks.0.attn_scale", 512), "fp16");
  EXPECT_EQ(rule("blocks.0.attn.c_q.weight", 65'536), "fp16");
  EXPECT_EQ(rule("blocks.0.attn.c_q.weight", 65'537), "int6_rowmax");
  EXPECT_EQ(rule("bigram.proj.weight", 65'537), "int6_rowmax") << "an inner projection counts as attention";
}

/// Bytes of a tensor before compression, by its rule.
std::int64_t raw_bytes(const QuantPolicy& policy, const std::string& name, std::int64_t rows,
                       std::int64_t columns) {
  const auto n = rows * columns;
  return policy.rule_for(named(name, n)).kind == Kind::fp16 ? 2 * n : n + 2 * rows;
}

TEST(Policy, PayloadOfThePublishedModels) {
  // docs/spec/quantization.md section 1: 27,204,792 bytes with value embeddings, 27,006,130 without (PR 398).
  const auto policy = policy_with("int6_search");
  std::int64_t bytes = 0;
  for (int layer = 0; layer < 11; ++layer) {
    const auto block = "blocks." + std::to_string(layer);
    for (const auto& [name, rows, columns] : {std::tuple{".attn.c_q.weight", 512, 512},
                                              {".attn.c_k.weight", 256, 512},
                                              {".attn.c_v.weight", 256, 512},
                                              {".attn.proj.weight", 512, 512},
                                              {".mlp.fc.weight", 1536, 512},
                                              {".mlp.proj.weight", 512, 1536}})
      bytes += raw_bytes(policy, block + name, rows, columns);
  }
  EXPECT_EQ(bytes, 25'952'256 + 39'424 * 2);
  bytes += raw_bytes(policy, "tok_emb.weight", 1024, 512) +
           raw_bytes(policy, "bigram.embed.weight", 2048, 128) +
           raw_bytes(policy, "bigram.proj.weight", 512, 128);
  EXPECT_EQ(bytes + 2 * 25'689, 27'006'130);
  bytes += raw_bytes(policy, "ve_shared.embed.weight", 1024, 128) +
           raw_bytes(policy, "ve_shared.proj.weight", 256, 128);
  EXPECT_EQ(bytes + 2 * 25'692, 27'204'792);
}

TEST(Policy, MixedGridsAndPassThroughLists) {
  auto policy = policy_with("int6_search");
  policy.mlp = &find_rule("quant.mlp", "int5_search");
  for (const char* text : {"tok_emb.weight=fp16", "blocks.10.*=int8", "*.c_q.*=int7_rowmax"})
    policy.overrides.push_back(parse_override("quant.rules", text));
  const auto rule = [&](const char* name) { return policy.rule_for(named(name, 300'000)).name; };
  EXPECT_EQ(rule("tok_emb.weight"), "fp16");
  EXPECT_EQ(rule("blocks.10.attn.c_q.weight"), "int8") << "the first match";
  EXPECT_EQ(rule("blocks.1.attn.c_q.weight"), "int7_rowmax");
  EXPECT_EQ(rule("blocks.1.attn.c_k.weight"), "int6_search");
  EXPECT_EQ(rule("blocks.1.mlp.fc.weight"), "int5_search");
  EXPECT_EQ(rule("bigram.embed.weight"), "int8");
  EXPECT_EQ(policy.rule_for(named("blocks.10.attn_scale", 512)).name, "int8") << "whatever the size";
}

TEST(Policy, UnknownRulesAreInputErrors) {
  EXPECT_EQ(find_rule("quant.matrix", "int6_search").kind, Kind::int6);
  const auto text = error_of([] { find_rule("quant.matrix", "int9"); });
  for (const char* part : {"quant.matrix", "int9", "int6_search", "fp16"}) EXPECT_THAT(text, HasSubstr(part));
  for (const char* bad : {"int8", "=int8", ""})
    EXPECT_THAT(error_of([&] { parse_override("quant.rules", bad); }), HasSubstr("quant.rules: '"));
  EXPECT_THAT(error_of([] { parse_override("quant.rules", "a=b"); }), HasSubstr("\"b\": unknown rule"));
}

TEST(Policy, EveryRuleStoresAndGivesBack) {
  base::ThreadPool pool(2);
  const base::Random random(5, "rules");
  std::vector<float> values(60 * 70);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(3.0 * random.normal(i));
  for (const auto& name : rule_names()) {
    const auto& rule = find_rule("quant.matrix", name);
    std::vector<float> uncorrelated(70 * 70);
    for (std::size_t i = 0; i < 70; ++i) uncorrelated[i * 70 + i] = 1;
    const auto q = rule.quantize ? rule.quantize("w", values, {60, 70}, pool)
                                 : quantize_gptq("w", values, {60, 70}, uncorrelated,
                                                 {.q_max = rule.q_max, .clip = 4}, pool);
    EXPECT_EQ(q.kind, rule.kind) << name;
    EXPECT_TRUE(name.starts_with(kind_name(rule.kind))) << name;
    std::vector<float> back(values.size());
    dequantize(q, back, pool);
    double error = 0, power = 0;
    for (std::size_t i = 0; i < values.size(); ++i) {
      error += std::pow(static_cast<double>(values[i]) - back[i], 2);
      power += std::pow(values[i], 2);
    }
    // Step of 11 / 15 at five bits: an error of step^2 / 12 over a variance of 9.
    EXPECT_LT(error / power, name.starts_with("int5") ? 0.01 : 0.0025) << name;
  }
}

const TensorInfo matrix = named("blocks.0.mlp.fc.weight", {300, 300});

std::vector<TensorInfo> ten_matrices(Sensitivity& sensitivity) {
  std::vector<TensorInfo> tensors;
  for (int i = 0; i < 10; ++i) {
    const auto name = "blocks." + std::to_string(i) + ".mlp.fc.weight";
    tensors.push_back(named(name, 100'000));
    sensitivity[name] = i == 4 ? 100.0 : static_cast<double>(i);
  }
  return tensors;
}

TEST(GuidedBits, TheMostSensitiveGetABitMoreTheLeastOneLess) {
  Sensitivity sensitivity{{"tok_emb.weight", 1e9}, {"gone", 1e9}};
  auto tensors = ten_matrices(sensitivity);
  tensors.push_back(named("tok_emb.weight", 500'000));
  auto policy = policy_with("int6_rowmax");
  policy.overrides.push_back(parse_override("quant.rules", "blocks.1.*=int8"));
  guide_bits(policy, sensitivity, tensors, 0.1,
             0.2);  // of nine: blocks.1 is not on a grid that could change
  const auto rule = [&](int i) {
    return policy.rule_for(named("blocks." + std::to_string(i) + ".mlp.fc.weight", 100'000)).name;
  };
  EXPECT_EQ(rule(4), "int6_rowmax") << "a tenth of nine is none";
  EXPECT_EQ(rule(0), "int5_rowmax");
  EXPECT_EQ(rule(1), "int8");
  EXPECT_EQ(rule(2), "int6_rowmax");
  policy = policy_with("int6_search");
  guide_bits(policy, sensitivity, tensors, 0.1, 0.2);
  EXPECT_EQ(rule(4), "int7_search");
  EXPECT_EQ(rule(0), "int5_search");
  EXPECT_EQ(rule(1), "int5_search");
  EXPECT_EQ(rule(2), "int6_search");
  EXPECT_EQ(rule(9), "int6_search");
  EXPECT_EQ(policy.rule_for(named("tok_emb.weight", 500'000)).name, "int8");
}

TEST(GuidedBits, ValuesMustBeMeansOfSquares) {
  for (const double bad : {-1.0, std::nan("")}) {
    Sensitivity sensitivity;
    const auto tensors = ten_matrices(sensitivity);
    sensitivity.begin()->second = bad;
    auto policy = policy_with("int6_rowmax");
    EXPECT_THAT(error_of([&] { guide_bits(policy, sensitivity, tensors, 0.1, 0.2); }),
                HasSubstr("blocks.0.mlp.fc.weight"));
  }
}

TEST(Policy, PruningTouchesOnlyTheExportedCopyOfLargeMatrices) {
  base::ThreadPool pool(2);
  const base::Random random(5, "prune");
  std::vector<float> values(300 * 300);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(40.0 * random.normal(i));
  const auto kept = values;
  auto with = policy_with("int6_rowmax");
  with.prune.share = 0.25;
  const auto without = policy_with("int6_rowmax");
  const auto zeros = [](const QuantizedTensor& q) {
    return std::count(q.q.begin(), q.q.end(), std::int8_t{0});
  };
  const auto stored = [&](const QuantPolicy& policy) {
    return quantize(policy, matrix, values, false, pool);
  };
  const auto pruned = stored(with), plain = stored(without);
  EXPECT_EQ(values, kept);
  EXPECT_GE(zeros(pruned), 300 * 300 / 4);
  EXPECT_LT(zeros(plain), 300 * 300 / 10);
  EXPECT_FALSE(with.prunes({65'536}));
  EXPECT_FALSE(with.prunes({512, 128}));
  EXPECT_FALSE(with.prunes({2, 300, 300}));
}

TEST(Policy, PruningByThresholdBeforeAndAfter) {
  base::ThreadPool pool(2);
  const base::Random random(6, "prune");
  std::vector<float> values(300 * 300);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(4.0 * random.normal(i));
  const auto stored = [&](PruneWhen when, const char* rule) {
    auto policy = policy_with(rule);
    policy.prune = {.share = 0.0, .below = 2.5, .when = when};
    return quantize(policy, matrix, values, false, pool);
  };
  const auto plain = quantize(policy_with("int6_search"), matrix, values, false, pool);
  const auto before = stored(PruneWhen::before, "int6_search"),
             after = stored(PruneWhen::after, "int6_search");
  for (std::size_t i = 0; i < values.size(); ++i) {
    const bool small = std::abs(values[i]) < 2.5f;
    ASSERT_EQ(after.q[i], small ? 0 : plain.q[i]) << "scales come from all weights";
    if (small) {
      ASSERT_EQ(before.q[i], 0);
    }
  }
  for (std::size_t r = 0; r < 300; ++r) ASSERT_EQ(after.scales[r].bits, plain.scales[r].bits);
  const auto half = stored(PruneWhen::after, "fp16");
  EXPECT_EQ(tensor::to_float(half.passthrough[0]) == 0.0f, std::abs(values[0]) < 2.5f);
}

}  // namespace
}  // namespace fairway::quant
