// Several programs over one arena, states that survive runs, constants.
#include "random_graph.h"

#include "fairway/base/error.h"

#include <gtest/gtest.h>

#include <numeric>

namespace fairway::graph::testing {
namespace {

using tensor::DType;

class Plans : public ::testing::Test {
 protected:
  base::ThreadPool pool_{2};
  ParameterStore store_{random_layout(), {}, false};
  Plan plan_{store_, {{}, base::best_isa(), {}, &pool_}};
  Builder builder(const char* name) { return Builder(name, store_.layout(), DType::f32); }
};

/// total += x; out = total.
Graph accumulate(Builder b) {
  const auto x = b.input("x", {DType::f32, {4}});
  const auto total = b.state("total", {DType::f32, {4}});
  const auto sum = b.op1<ops::Add>({total, x});
  b.update_state(total, sum);
  b.output(sum, "sum");
  return b.finish();
}

void feed(Program& program, float value) {
  std::ranges::fill(program.view("x").span<float>(), value);
  program.run();
}

TEST_F(Plans, StatesSurviveRunsAndAreSharedByName) {
  auto& first = plan_.add(accumulate(builder("first")));
  auto& second = plan_.add(accumulate(builder("second")));
  auto& big = plan_.add(random_graph(3, store_.layout(), DType::f32, {.backward = false}));
  plan_.allocate();
  feed(first, 1);
  feed(second, 10);
  fill_inputs<float>(big, 3);
  big.run();  // overwrites the arena, not the state
  feed(first, 100);
  EXPECT_EQ(first.view("sum").span<float>()[3], 111.0f);
  EXPECT_EQ(second.view("total").span<float>()[0], 111.0f);
  plan_.zero_state("total");
  feed(second, 5);
  EXPECT_EQ(second.view("sum").span<float>()[0], 5.0f);
  EXPECT_THROW(plan_.zero_state("nothing"), base::Error);
}

TEST_F(Plans, AStateIsReadBeforeItsUpdateInTheSameRun) {
  auto b = builder("order");
  const auto x = b.input("x", {DType::f32, {2, 2}});
  const auto previous = b.state("previous", {DType::f32, {4}});
  const auto difference = b.op1<ops::Add>({b.reshape(x, {4}), previous});
  b.update_state(previous, x);
  b.output(difference, "sum");
  auto& program = plan_.add(b.finish());
  plan_.allocate();
  feed(program, 2);
  EXPECT_EQ(program.view("sum").span<float>()[0], 2.0f);
  feed(program, 3);
  EXPECT_EQ(program.view("sum").span<float>()[3], 5.0f);
}

TEST_F(Plans, OneArenaOfTheLargestProgram) {
  auto& small = plan_.add(accumulate(builder("small")));
  auto& large = plan_.add(random_graph(4, store_.layout(), DType::f32, {.backward = false}));
  const auto planned = plan_.planned_bytes();
  plan_.allocate();
  ASSERT_LT(small.memory().arena_bytes, large.memory().arena_bytes);
  std::size_t shared = 0, states = 0;
  for (const auto& line : plan_.memory_table()) {
    if (line.what == "arena (shared)") shared = line.bytes;
    if (line.what == "states") states = line.bytes;
  }
  EXPECT_EQ(shared, large.memory().arena_bytes);
  EXPECT_EQ(states, 16u);
  // Known beforehand, and the arena counts once, however many programs lie in it.
  std::size_t constants = 0;
  for (const auto& line : plan_.memory_table())
    if (line.what == "constants") constants = line.bytes;
  EXPECT_EQ(planned, store_.bytes() + shared + states + constants);
  EXPECT_EQ(total_bytes(plan_.memory_table()), planned);
}

TEST_F(Plans, ProgramsAddedLaterKeepEarlierStates) {
  auto& first = plan_.add(accumulate(builder("first")));
  plan_.allocate();
  feed(first, 7);
  auto& later = plan_.add(random_graph(5, store_.layout(), DType::f32, {.backward = false}));
  plan_.allocate();
  fill_inputs<float>(later, 5);
  later.run();
  feed(first, 1);
  EXPECT_EQ(first.view("sum").span<float>()[0], 8.0f) << "first runs in the arena that has moved";
}

TEST_F(Plans, ConstantsSurviveAndAreStoredOnce) {
  auto data = std::make_shared<tensor::Array>(tensor::Meta{DType::f32, {4}});
  std::iota(data->span<float>().begin(), data->span<float>().end(), 1.0f);
  auto make = [&](const char* name) {
    auto b = builder(name);
    const auto x = b.input("x", {DType::f32, {4}});
    b.output(b.op1<ops::Add>({b.constant("c", data), x}), "sum");
    return b.finish();
  };
  auto& first = plan_.add(make("first"));
  auto& second = plan_.add(make("second"));
  plan_.allocate();
  for (int i = 0; i < 2; ++i) {
    feed(first, 1);
    EXPECT_EQ(first.view("sum").span<float>()[3], 5.0f) << "no run writes into a constant";
    feed(second, 2);
    EXPECT_EQ(second.view("sum").span<float>()[0], 3.0f);
  }
  for (const auto& line : plan_.memory_table()) {
    if (line.what != "constants") continue;
    EXPECT_EQ(line.bytes, 16u);
  }
}

TEST_F(Plans, RunningBeforeAllocationAndUnknownNamesAreErrors) {
  auto& program = plan_.add(accumulate(builder("early")));
  EXPECT_THROW(program.run(), base::Error);
  EXPECT_THROW(program.view("x"), base::Error);
  plan_.allocate();
  EXPECT_THROW(program.view("z"), base::Error);
}

TEST_F(Plans, ThreadCountChangesNoBit) {
  std::vector<std::vector<std::byte>> results;
  for (const int threads : {1, 2, 3}) {
    base::ThreadPool pool(threads);
    ParameterStore store(random_layout(), {}, true);
    fill_random<float>(store.flat_values(), 9, 0.6);
    Plan plan(store, {{}, base::best_isa(), {}, &pool});
    auto& program = plan.add(random_graph(9, store.layout(), DType::f32, {.steps = 24}));
    plan.allocate();
    fill_inputs<float>(program, 9);
    program.run();
    results.push_back(bytes_of(store.flat_gradients()));
  }
  EXPECT_EQ(results[0], results[1]);
  EXPECT_EQ(results[0], results[2]);
}

TEST_F(Plans, StepReportsNameOperatorsShapesAndCost) {
  auto b = builder("report");
  b.scope("blocks.0.attn");
  const auto x = b.input("x", {DType::f32, {rows, width}});
  b.output(b.linear(x, b.parameter("single")), "y");
  auto& program = plan_.add(b.finish());
  plan_.allocate();
  std::ranges::fill(program.view("x").span<float>(), 1.0f);
  program.run_measured();
  const auto steps = program.steps();
  ASSERT_EQ(steps.size(), 1u);
  EXPECT_EQ(steps[0].scope, "blocks.0.attn");
  EXPECT_EQ(steps[0].op, "matmul");
  EXPECT_EQ(steps[0].inputs, "[6, 8] [8, 8]");
  EXPECT_EQ(steps[0].cost.flops, 2.0 * rows * width * width);
  EXPECT_GT(steps[0].seconds, 0);
  EXPECT_EQ(program.cost().flops, steps[0].cost.flops);
}

}  // namespace
}  // namespace fairway::graph::testing
