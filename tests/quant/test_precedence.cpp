// Which rule has the last word on a tensor, and what stands at a threshold.
#include "fairway/base/error.h"
#include "fairway/quant/policy.h"
#include "quant/named.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fairway::quant {
namespace {

base::ThreadPool& pool() {
  static base::ThreadPool threads(1);
  return threads;
}

const TensorInfo kMatrix = named("blocks.0.attn.c_q.weight", 1 << 20),
                 kOther = named("blocks.1.attn.c_q.weight", 1 << 20);

TEST(GuidedBits, WhatSomebodyWroteDownIsTheLastWord) {
  const std::vector<TensorInfo> tensors = {kMatrix, kOther};
  const Sensitivity sensitivity = {{kMatrix.name, 9.0}, {kOther.name, 1.0}};
  auto policy = policy_with("int6_rowmax");
  guide_bits(policy, sensitivity, tensors, 0.5, 0.5);
  EXPECT_EQ(policy.rule_for(kMatrix).name, "int7_rowmax") << "guided alone";
  EXPECT_EQ(policy.rule_for(kOther).name, "int5_rowmax");

  // A rule between the grids: guided bits would make int7 of int6 and int6 of int5.
  policy = policy_with("int6_rowmax");
  policy.overrides.push_back(parse_override("quant.rules", "blocks.0.*=int6_rowmax"));
  guide_bits(policy, sensitivity, tensors, 0.5, 0.5);
  EXPECT_EQ(policy.rule_for(kMatrix).name, "int6_rowmax") << "its rule says so";
  EXPECT_EQ(policy.rule_for(kOther).name, "int5_rowmax");
}

TEST(GuidedBits, TheFirstRuleThatMatchesWins) {
  auto policy = policy_with("int6_rowmax");
  policy.overrides.push_back(parse_override("quant.rules", "blocks.0.*=int8"));
  policy.overrides.push_back(parse_override("quant.rules", "*=fp16"));
  EXPECT_EQ(policy.rule_for(kMatrix).name, "int8");
  EXPECT_EQ(policy.rule_for(kOther).name, "fp16");
  policy = policy_with("int6_rowmax");
  const auto at = [&](std::int64_t elements) { return policy.rule_for(named(kMatrix.name, elements)).name; };
  EXPECT_EQ(at(policy.passthrough_limit), "fp16");
  EXPECT_EQ(at(policy.passthrough_limit + 1), "int6_rowmax");
}

TEST(Prune, AWeightAtTheThresholdStays) {
  // One below, one at, one above, in both signs.
  const std::vector<float> values = {0.25f, 0.5f, 1.0f, -0.25f, -0.5f, -1.0f, 2.0f, -2.0f};
  for (const auto when : {PruneWhen::before, PruneWhen::after}) {
    auto policy = policy_with("int8");
    policy.passthrough_limit = 0;
    policy.prune = {0, 0.5, when};
    const auto q = quantize(policy, named(kMatrix.name, {2, 4}), values, false, pool());
    for (std::size_t i = 0; i < values.size(); ++i)
      EXPECT_EQ(q.q[i] == 0, std::abs(values[i]) < 0.5f) << base::name_of(when) << " " << values[i];
  }
}

TEST(Prune, OnlyWhatIsLargeAndAMatrix) {
  auto policy = policy_with("int8");
  policy.passthrough_limit = 8;
  policy.prune = {0.5, 0};
  EXPECT_FALSE(policy.prunes({2, 4})) << "at the limit";
  EXPECT_TRUE(policy.prunes({3, 3}));
  EXPECT_FALSE(policy.prunes({9}));
  policy.prune = {0, 0.1};
  EXPECT_TRUE(policy.prunes({3, 3})) << "either way of saying it";
  policy.prune = {};
  EXPECT_FALSE(policy.prunes({3, 3}));
}

}  // namespace
}  // namespace fairway::quant
