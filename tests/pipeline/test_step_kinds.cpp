#include "fairway/pipeline/measure/step_kinds.h"

#include <gmock/gmock.h>

namespace fairway::pipeline {
namespace {

using ::testing::ElementsAre;

TEST(StepKinds, ConstantsMakeNoKind) {
  const auto step = [](const char* op, const char* attributes, const char* inputs, bool backward = false) {
    graph::StepReport s;
    s.op = op, s.attributes = attributes, s.inputs = inputs, s.is_backward = backward;
    s.cost.flops = 2, s.cost.bytes = 3, s.seconds = 0.5;
    return s;
  };
  const auto kinds =
      step_kinds({step("norm", "scale=1 eps=1e-06", "[2]"), step("matmul", "a b^T", "[2]"),
                  step("norm", "scale=0.5 eps=1e-06", "[2]"), step("norm", "scale=0.5 eps=1e-06 skip", "[2]"),
                  step("norm", "scale=0.5 eps=1e-06", "[3]"), step("matmul", "a b^T", "[2]", true),
                  step("heads", "heads=2", "[2]"), step("heads", "heads=4", "[2]"),
                  step("loss", "cap=30, z_loss=0.1", "[2]"), step("loss", "cap=20", "[2]")});
  std::vector<std::string> names;
  for (const auto& k : kinds) names.push_back(k.op + k.inputs + (k.backward ? " backward" : ""));
  EXPECT_THAT(names,
              ElementsAre("norm[2]", "matmul a b^T[2]", "norm skip[2]", "norm[3]", "matmul a b^T[2] backward",
                          "heads heads=2[2]", "heads heads=4[2]", "loss[2]"));
  EXPECT_THAT(kinds[0].steps, ElementsAre(0u, 2u));
  EXPECT_EQ(kinds[0].cost.flops, 4);
  EXPECT_EQ(kinds[0].cost.bytes, 6);
  EXPECT_EQ(kinds[0].seconds, 1);
}

}  // namespace
}  // namespace fairway::pipeline
