#include <gtest/gtest.h>

#include <algorithm>
#include <string>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "fairway/quant/policy.h"

namespace fairway::quant {
namespace {

TEST(Policy, FollowsThePublishedTable) {
  const QuantPolicy policy{.matrix = MatrixRule::int6_rowmax};
  const auto rule = [&](const char* name, std::int64_t n) { return policy.rule_for(name, n); };
  for (const char* name : {"blocks.0.attn.c_q.weight", "blocks.10.attn.proj.weight", "blocks.3.mlp.fc.weight",
                           "blocks.3.mlp.proj.weight"})
    EXPECT_EQ(rule(name, 131'072), MatrixRule::int6_rowmax) << name;
  EXPECT_EQ(rule("tok_emb.weight", 524'288), MatrixRule::int8);
  EXPECT_EQ(rule("bigram.embed.weight", 262'144), MatrixRule::int8);
  EXPECT_EQ(rule("ve_shared.embed.weight", 131'072), MatrixRule::int8);
  EXPECT_EQ(rule("bigram.proj.weight", 65'536), MatrixRule::fp16) << "exactly at the limit";
  EXPECT_EQ(rule("ve_shared.proj.weight", 32'768), MatrixRule::fp16);
  EXPECT_EQ(rule("blocks.0.attn_scale", 512), MatrixRule::fp16);
  EXPECT_EQ(rule("blocks.0.attn.c_q.weight", 65'536), MatrixRule::fp16);
  EXPECT_EQ(rule("blocks.0.attn.c_q.weight", 65'537), MatrixRule::int6_rowmax);
  EXPECT_EQ(rule("bigram.proj.weight", 65'537), MatrixRule::int6_rowmax)
      << "an inner projection counts as attention";
}

TEST(Policy, Categories) {
  EXPECT_EQ(category_of("tok_emb.weight"), Category::embed);
  EXPECT_EQ(category_of("blocks.1.mlp.proj.weight"), Category::mlp);
  EXPECT_EQ(category_of("blocks.1.attn.proj.weight"), Category::attn);
  EXPECT_EQ(category_of("bigram.proj.weight"), Category::attn);
  EXPECT_EQ(category_of("bigram.embed.weight"), Category::other);
  EXPECT_EQ(category_of("blocks.1.attn_scale"), Category::other);
}

TEST(Policy, UnknownRulesAreInputErrors) {
  EXPECT_EQ(parse_matrix_rule("quant.matrix", "int6_search"), MatrixRule::int6_search);
  EXPECT_EQ(parse_matrix_rule("quant.matrix", "int6_rowmax"), MatrixRule::int6_rowmax);
  EXPECT_EQ(parse_table_rule("quant.table", "int8"), TableRule::int8);
  try {
    parse_matrix_rule("quant.matrix", "int7");
    FAIL();
  } catch (const base::Error& error) {
    EXPECT_EQ(error.kind(), base::ErrorKind::input);
    const std::string text = error.what();
    EXPECT_NE(text.find("quant.matrix"), std::string::npos);
    EXPECT_NE(text.find("int7"), std::string::npos);
    EXPECT_NE(text.find("int6_search"), std::string::npos);
  }
  EXPECT_THROW(parse_table_rule("quant.table", "int6_search"), base::Error);
}

TEST(Policy, PruningTouchesOnlyTheExportedCopyOfLargeMatrices) {
  base::ThreadPool pool(2);
  const base::Random random(5, "prune");
  std::vector<float> values(300 * 300);
  for (std::size_t i = 0; i < values.size(); ++i) values[i] = static_cast<float>(40.0 * random.normal(i));
  const auto kept = values;
  const QuantPolicy with{.matrix = MatrixRule::int6_rowmax, .prune = 0.25},
      without{.matrix = MatrixRule::int6_rowmax};
  const auto zeros = [](const QuantizedTensor& q) {
    return std::count(q.q.begin(), q.q.end(), std::int8_t{0});
  };
  const auto pruned = quantize(with, "blocks.0.mlp.fc.weight", values, {300, 300}, false, pool);
  const auto plain = quantize(without, "blocks.0.mlp.fc.weight", values, {300, 300}, false, pool);
  EXPECT_EQ(values, kept);
  EXPECT_GE(zeros(pruned), 300 * 300 / 4);
  EXPECT_LT(zeros(plain), 300 * 300 / 10);
  EXPECT_FALSE(with.prunes({65'536}));
  EXPECT_FALSE(with.prunes({512, 128}));
  EXPECT_FALSE(with.prunes({2, 300, 300}));
}

}  // namespace
}  // namespace fairway::quant
