#include "fairway/ops/memory_tokens.h"

#include "ops/direct.h"

namespace fairway::ops {
namespace {

using namespace harness;

TEST(MemoryTokens, AllChecks) {
  for (const Shape& shape : {Shape{1, 1, 1}, Shape{2, 7, 33}, Shape{3, 64, 65}})
    for (const auto count : {std::int64_t{1}, (shape[1] + 1) / 2, shape[1]}) {
      auto c =
          op_case(fmt::format("memory_tokens {} of {}", count, shape.str()), std::make_shared<MemoryTokens>(),
                  {tensor_input(shape, normal()), tensor_input({count, shape[2]}, normal())});
      c.add_outputs = {0};
      c.rejects = {{{DType::f32, shape}, {DType::f32, {shape[1] + 1, shape[2]}}},
                   {{DType::f32, shape}, {DType::f32, {count, shape[2] + 1}}}};
      EXPECT_EQ(run_all_checks(c), "");
    }
}

TEST(MemoryTokens, Values) {
  const auto c =
      op_case("", std::make_shared<MemoryTokens>(),
              {tensor_input({2, 3, 1}, listed({1, 2, 3, 4, 5, 6})), tensor_input({2, 1}, listed({8, 9}))});
  EXPECT_EQ(output_values(c), (std::vector<double>{8, 9, 3, 8, 9, 6}));
}

}  // namespace
}  // namespace fairway::ops
