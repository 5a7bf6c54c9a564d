#include "fairway/base/pattern.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <utility>

#include "fairway/base/error.h"

namespace fairway::base {
namespace {

TEST(Pattern, StarsAndQuestionMarks) {
  for (const auto& [pattern, name] : {std::pair{"*", ""},
                                      {"*", "a.b"},
                                      {"a.b", "a.b"},
                                      {"blocks.*.mlp.*", "blocks.10.mlp.fc.weight"},
                                      {"*.weight", "x.weight.weight"},
                                      {"b?ocks.1.*", "blocks.1.q"},
                                      {"*a*b*", "xxaxxbxxab"},
                                      {"a*b", "axb"},
                                      {"a*b", "ab"},
                                      {"**", "x"}})
    EXPECT_TRUE(matches(pattern, name)) << pattern << " " << name;
  for (const auto& [pattern, name] : {std::pair{"", "a"},
                                      {"a", ""},
                                      {"a.b", "a.bc"},
                                      {"blocks.1.*", "blocks.10.q"},
                                      {"*.weight", "x.weights"},
                                      {"?", ""},
                                      {"*a*b", "xxbxxa"}})
    EXPECT_FALSE(matches(pattern, name)) << pattern << " " << name;
}

TEST(Pattern, TheLastEqualsSignDivides) {
  const auto read = parse_pattern_value("key", "a=b*=int8", "x");
  EXPECT_EQ(read.pattern, "a=b*");
  EXPECT_EQ(read.value, "int8");
  for (const auto* text : {"", "a", "=b", "a=", "="}) {
    try {
      parse_pattern_value("quant.rules", text, "PATTERN=RULE");
      ADD_FAILURE() << text;
    } catch (const Error& e) {
      EXPECT_THAT(e.what(),
                  testing::HasSubstr("quant.rules: '" + std::string(text) + "' is not PATTERN=RULE"));
    }
  }
}

}  // namespace
}  // namespace fairway::base
