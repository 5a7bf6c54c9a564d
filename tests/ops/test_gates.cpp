// The gates and lanes of the CaseOps systems.
#include "ops/gate_cases.h"

namespace fairway::ops {
namespace {

using namespace harness;

TEST(GatedSkip, AllChecks) {
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 65}, Shape{2, 70, 33}, Shape{300, 7}})
    EXPECT_EQ(run_all_checks(gated_skip_case(shape)), "");
}

TEST(GatedSkip, AClosedGateTakesTheSkipAndAnOpenOneTheStream) {
  const auto c = op_case("", std::make_shared<GatedSkip>(),
                         {tensor_input({1, 3}, listed({1, 2, 3})), tensor_input({1, 3}, listed({10, 20, 30})),
                          tensor_input({3}, listed({1, 0.5, 2})), tensor_input({3}, listed({0, -80, 80}))});
  EXPECT_EQ(output_values(c), (std::vector<double>{5.5, 10, 3}));
}

TEST(HeadGate, AllChecks) {
  for (const auto& sizes : {GateSizes{1, 1, 1, 1, 1, 1, 1}, GateSizes{2, 5, 5, 4, 16, 64, 12},
                            GateSizes{2, 3, 7, 3, 9, 27, 12}, GateSizes{1, 70, 70, 2, 33, 66, 66}})
    for (const float factor : {1.0f, 2.0f}) EXPECT_EQ(run_all_checks(head_gate_case(sizes, factor)), "");
}

TEST(HeadGate, StartsHalfOpen) {
  const auto c = op_case("", std::make_shared<HeadGate>(1.0f, 1.0f),
                         {tensor_input({1, 1, 2, 1}, listed({4, 6})), tensor_input({1, 1, 3}, normal()),
                          tensor_input({2, 3}, constant(0))});
  EXPECT_EQ(output_values(c), (std::vector<double>{2, 3}));
}

TEST(TokenSmear, AllChecks) {
  for (const bool carried : {false, true}) {
    auto c = token_smear_case({1, 1, 1}, 1, carried);
    c.rejects = {{{DType::f32, {1, 1, 1}}, {DType::i32, {1, 2}}, {DType::f32, {1, 1}}, {DType::f32, {1}}}};
    EXPECT_EQ(run_all_checks(c), "");
    EXPECT_EQ(run_all_checks(token_smear_case({2, 7, 33}, 12, carried)), "");
    EXPECT_EQ(run_all_checks(token_smear_case({3, 50, 65}, 12, carried)), "");
    EXPECT_EQ(run_all_checks(token_smear_case({1, 40, 17}, 17, carried)), "");
  }
}

TEST(TokenSmear, NothingCrossesADocumentsStartOrAFusedMarker) {
  // Gate 1/2, lambda 2: each position takes the one before as it is.
  const auto values = [](std::vector<double> tokens) {
    return output_values(op_case(
        "", std::make_shared<TokenSmear>(1, std::vector<int>{5}),
        {tensor_input({1, 4, 1}, listed({1, 10, 100, 1000})), index_input({1, 4}, listed(std::move(tokens))),
         tensor_input({1, 1}, constant(0)), tensor_input({1}, constant(2))}));
  };
  EXPECT_EQ(values({1, 2, 3, 4}), (std::vector<double>{1, 11, 110, 1100}));
  EXPECT_EQ(values({2, 1, 3, 1}), (std::vector<double>{1, 10, 110, 1000}));
  EXPECT_EQ(values({2, 5, 3, 4}), (std::vector<double>{1, 11, 100, 1100}));
}

TEST(TokenSmear, PiecesGiveTheWholeWindow) {
  const auto gate = tensor_input({1, 1}, constant(0.3)), lambda = tensor_input({1}, constant(0.5));
  const auto op = std::make_shared<TokenSmear>(1, std::vector<int>{5});
  const auto whole = output_values(op_case("", op,
                                           {tensor_input({1, 3, 2}, listed({1, 2, 3, 4, 5, 6})),
                                            index_input({1, 3}, listed({7, 8, 9})), gate, lambda}));
  const auto last = [&](double token) {
    return output_values(
        op_case("", op,
                {tensor_input({1, 1, 2}, listed({5, 6})), index_input({1, 1}, listed({9})), gate, lambda,
                 tensor_input({1, 2}, listed({3, 4})), index_input({1}, listed({token}))}));
  };
  EXPECT_EQ(last(8), std::vector<double>(whole.begin() + 4, whole.end()));
  EXPECT_EQ(last(5), (std::vector<double>{5, 6}));
}

TEST(TwoLanes, AllChecks) {
  for (const Shape& shape : {Shape{1, 1}, Shape{3, 65}, Shape{2, 70, 33}, Shape{300, 7}})
    for (const bool join : {false, true}) EXPECT_EQ(run_all_checks(two_lanes_case(shape, join)), "");
}

TEST(TwoLanes, BothResultsReachBothLanes) {
  const auto one = [](double v) { return tensor_input({1, 1}, constant(v)); };
  const auto scale = [](double v) { return tensor_input({1}, constant(v)); };
  const std::vector<InputSpec> in = {one(1),
                                     one(2),
                                     one(10),
                                     one(100),
                                     scale(2),
                                     scale(3),
                                     tensor_input({2}, listed({0.5, 4})),
                                     tensor_input({2, 2}, listed({1, 2, 3, 4}))};
  // lane_0 = 0.5 * 1 + 1 * 20 + 3 * 300, lane_1 = 4 * 2 + 2 * 20 + 4 * 300
  EXPECT_EQ(output_values(op_case("", std::make_shared<TwoLanes>(false), in), 0), std::vector<double>{920.5});
  EXPECT_EQ(output_values(op_case("", std::make_shared<TwoLanes>(false), in), 1), std::vector<double>{1248});
  EXPECT_EQ(output_values(op_case("", std::make_shared<TwoLanes>(true), in)), std::vector<double>{1084.25});
}

}  // namespace
}  // namespace fairway::ops
