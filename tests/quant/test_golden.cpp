// Stored integers, scales and halves of the original implementations, exactly.
#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "fairway/quant/policy.h"
#include "quant/named.h"
#include "support/safetensors.h"

namespace fairway::quant {
namespace {

tensor::Shape shape_of(const testing::GoldenArray& array) {
  return array.shape.size() == 1 ? tensor::Shape{array.shape[0]}
                                 : tensor::Shape{array.shape[0], array.shape[1]};
}

std::vector<std::uint16_t> bits(const std::vector<tensor::f16>& values) {
  std::vector<std::uint16_t> out;
  for (const auto value : values) out.push_back(value.bits);
  return out;
}

/// Passthrough of the golden files ends below 65,536: their matrices are small, the limit decides as
/// published.
void compare(const std::string& file, const QuantPolicy& policy) {
  const auto inputs = testing::read_golden("quant_inputs");
  const auto golden = testing::read_golden(file);
  const auto kinds = golden.json("kind");
  base::ThreadPool pool(2);
  std::size_t compared = 0;
  for (const auto& [key, array] : inputs.arrays) {
    const std::string name = key.substr(std::strlen("in/"));
    const auto values = array.as<float>();
    const bool table = name.find("tok_emb") != name.npos;
    const auto result = quantize(policy, named(name, shape_of(array)), values, table, pool);
    const std::string kind = kinds.at(name);
    ASSERT_EQ(kind == "passthrough" ? "fp16" : kind, kind_name(result.kind)) << name;
    if (kind == "passthrough") {
      EXPECT_EQ(bits(result.passthrough), golden.at("stored/" + name).as<std::uint16_t>()) << name;
    } else {
      EXPECT_EQ(bits(result.scales), golden.at("stored/" + name + ".scale").as<std::uint16_t>()) << name;
      const auto expected = golden.at("stored/" + name + ".q").as<std::int8_t>();
      ASSERT_EQ(result.q.size(), expected.size());
      std::size_t different = 0;
      for (std::size_t i = 0; i < expected.size(); ++i) different += result.q[i] != expected[i];
      EXPECT_EQ(different, 0u) << name << ": integers that differ";
    }
    ++compared;
  }
  EXPECT_EQ(compared, kinds.size());
}

TEST(QuantGolden, Pr398) { compare("quant_pr398", policy_with("int6_rowmax")); }
TEST(QuantGolden, Pr417) { compare("quant_pr417", policy_with("int6_rowmax")); }
TEST(QuantGolden, Pr518) { compare("quant_pr518", policy_with("int6_search")); }

}  // namespace
}  // namespace fairway::quant
