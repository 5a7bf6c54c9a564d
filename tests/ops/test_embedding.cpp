#include "fairway/ops/embedding.h"

#include "ops/direct.h"

namespace fairway::ops {
namespace {

using namespace harness;

TEST(Gather, AllChecks) {
  for (const auto& [rows, columns, positions] :
       {std::tuple{1, 1, 1}, {7, 33, 65}, {1024, 65, 130}, {5, 512, 300}}) {
    auto c = op_case(fmt::format("gather {}x{} {}", rows, columns, positions), std::make_shared<Gather>(),
                     {tensor_input({rows, columns}, normal()), index_input({positions}, integers(0, rows))});
    c.add_outputs = {0};
    c.rejects = {{{DType::f32, {rows}}, {DType::i32, {positions}}},
                 {{DType::f32, {rows, columns}}, {DType::i64, {positions}}}};
    EXPECT_EQ(run_all_checks(c), "");
  }
}

TEST(Gather, WidensBf16Tables) {
  auto c = op_case("gather bf16", std::make_shared<Gather>(),
                   {{{DType::bf16, {19, 37}}, normal(), true, false}, index_input({2, 30}, integers(0, 19))});
  c.add_outputs = {0};
  EXPECT_EQ(run_all_checks(c), "");
  c = op_case(
      "", std::make_shared<Gather>(),
      {{{DType::bf16, {2, 1}}, listed({0.1, -3e38}), true, false}, index_input({3}, listed({1, 0, 1}))});
  const double low = tensor::round_to_bf16(-3e38f);
  EXPECT_EQ(output_values(c), (std::vector<double>{low, tensor::round_to_bf16(0.1f), low}));
}

TEST(Gather, RefusesIndicesOutsideTheTable) {
  for (double bad : {-1.0, 4.0}) {
    const auto c = op_case("", std::make_shared<Gather>(),
                           {tensor_input({4, 3}, normal()), index_input({2}, listed({0, bad}))});
    EXPECT_THROW(output_values(c), base::Error);
  }
}

TEST(GatherBackward, SumsInOrderOfPositions) {
  // 1e8 + 1 - 1e8 in fp32: 0 in ascending order of positions, 1 in another one.
  const auto c = op_case("", std::make_shared<GatherBackward>(),
                         {tensor_input({3, 1}, normal()), index_input({5}, listed({2, 0, 2, 2, 0})),
                          tensor_input({5, 1}, listed({1e8, 5, 1, -1e8, 7}))});
  EXPECT_EQ(output_values(c), (std::vector<double>{12, 0, 0}));
}

/// The formula of docs/spec/model.md section 3 in wide arithmetic, for ids whose products do not overflow.
std::int64_t expected_index(std::int64_t now, std::int64_t before, std::int64_t rows) {
  return ((36313 * now) ^ (27191 * before)) % (rows - 1);
}

TEST(BigramIndex, FollowsTheFormulaForSmallAndLargeIds) {
  for (const std::int64_t ids : {1024, 12288})
    for (const int rows : {2, 2048, 12288}) {
      const auto c =
          op_case("", std::make_shared<BigramIndex>(rows), {index_input({3, 500}, integers(0, ids))});
      const auto tokens = input_values(c)[0];
      const auto index = output_values(c);
      for (std::size_t i = 0; i < index.size(); ++i)
        EXPECT_EQ(index[i], i % 500 == 0 ? rows - 1
                                         : static_cast<double>(expected_index(
                                               static_cast<std::int64_t>(tokens[i]),
                                               static_cast<std::int64_t>(tokens[i - 1]), rows)));
    }
}

TEST(BigramIndex, KnownValues) {
  // (36313 * 12287) xor (27191 * 12287) = 446177831 xor 334095817 = 158451694 = 1612 mod 2047.
  const auto index = [](std::vector<double> tokens, int rows) {
    const auto n = static_cast<std::int64_t>(tokens.size());
    return output_values(
        op_case("", std::make_shared<BigramIndex>(rows), {index_input({1, n}, listed(std::move(tokens)))}));
  };
  EXPECT_EQ(index({12287, 12287}, 2048), (std::vector<double>{2047, 1612}));
  EXPECT_EQ(index({0, 0, 1, 0}, 2048), (std::vector<double>{2047, 0, 36313 % 2047, 27191 % 2047}));
  // Products beyond 2^31 wrap around as 32-bit signed numbers; the result is made non-negative.
  const auto wrapped = static_cast<std::int32_t>(36313u * 100000u) ^ static_cast<std::int32_t>(27191u * 3u);
  ASSERT_LT(wrapped, 0);
  EXPECT_EQ(index({3, 100000}, 2048)[1], (static_cast<std::int64_t>(wrapped) % 2047 + 2047) % 2047);
}

TEST(BigramIndex, PreviousTokenContinuesARow) {
  const auto op = std::make_shared<BigramIndex>(2048);
  const auto tokens = index_input({3, 2}, listed({5, 6, 7, 8, 9, 10}));
  const auto c = op_case("bigram_index", op, {tokens, index_input({3}, listed({4, -1, 0}))});
  EXPECT_EQ(run_all_checks(c), "");
  const auto at = [](int now, int before) { return static_cast<double>(expected_index(now, before, 2048)); };
  EXPECT_EQ(output_values(c), (std::vector<double>{at(5, 4), at(6, 5), 2047, at(8, 7), at(9, 0), at(10, 9)}));
  EXPECT_EQ(run_all_checks(op_case("bigram_index", op, {index_input({5, 4001}, integers(0, 1024))})), "");
}

}  // namespace
}  // namespace fairway::ops
