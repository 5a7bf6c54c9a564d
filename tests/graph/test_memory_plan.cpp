// Values that live at the same time never share memory; sharing never changes a result.
#include "random_graph.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <limits>

namespace fairway::graph::testing {
namespace {

struct Life {
  std::int64_t first = std::numeric_limits<std::int64_t>::max(), last = -2;
  std::int64_t offset = -1, bytes = 0;
  bool planned() const { return offset >= 0; }
};

/// Lifetimes found again from the graph alone, addresses from the plan.
std::vector<Life> lives(const Graph& g, const MemoryPlan& plan) {
  std::vector<Life> result(g.values.size());
  auto touch = [&](ValueId v, std::int64_t at) {
    if (v == absent) return;
    auto& life = result[static_cast<std::size_t>(g.root(v))];
    life.first = std::min(life.first, at);
    life.last = std::max(life.last, at);
  };
  const auto steps = static_cast<std::int64_t>(g.steps.size());
  for (std::int64_t s = 0; s < steps; ++s) {
    for (auto v : g.steps[static_cast<std::size_t>(s)].in) touch(v, s);
    for (auto v : g.steps[static_cast<std::size_t>(s)].out) touch(v, s);
  }
  for (std::size_t v = 0; v < g.values.size(); ++v) {
    if (g.values[v].output) touch(static_cast<ValueId>(v), steps);
    if (g.values[v].kind == BufferKind::input) touch(static_cast<ValueId>(v), -1);
    result[v].offset = plan.offset[v];
    result[v].bytes = static_cast<std::int64_t>(g.values[v].meta.bytes());
  }
  return result;
}

/// True when `out` is allowed to lie on `in`: it begins where `in` ends, by an operator that says so, and no
/// other argument of that step reads `in`.
bool in_place_allowed(const Graph& g, ValueId out, ValueId in, const Life& o, const Life& i) {
  if (o.first != i.last || o.first < 0 || o.offset != i.offset) return false;
  const auto& step = g.steps[static_cast<std::size_t>(o.first)];
  auto root_is = [&](ValueId v, ValueId root) { return v != absent && g.root(v) == root; };
  if (std::ranges::count_if(step.in, [&](auto v) { return root_is(v, in); }) != 1) return false;
  for (const auto& pair : step.op->in_place()) {
    const auto k = static_cast<std::size_t>(pair.output), j = static_cast<std::size_t>(pair.input);
    if (k < step.out.size() && j < step.in.size() && root_is(step.out[k], out) && root_is(step.in[j], in) &&
        step.write[k] == ops::Write::set)
      return true;
  }
  return false;
}

int check_disjoint(const Graph& g, const MemoryPlan& plan) {
  const auto all = lives(g, plan);
  int shared = 0;
  auto apart = [](std::int64_t a, std::int64_t a_bytes, std::int64_t b, std::int64_t b_bytes) {
    return a + a_bytes <= b || b + b_bytes <= a;
  };
  for (std::size_t a = 0; a < all.size(); ++a) {
    if (!all[a].planned() || g.root(static_cast<ValueId>(a)) != static_cast<ValueId>(a)) continue;
    EXPECT_LE(static_cast<std::size_t>(all[a].offset + all[a].bytes), plan.arena_bytes);
    EXPECT_EQ(all[a].offset % 64, 0);
    for (std::size_t b = 0; b < all.size(); ++b) {
      if (a == b || !all[b].planned() || g.root(static_cast<ValueId>(b)) != static_cast<ValueId>(b)) continue;
      const bool together = all[a].first <= all[b].last && all[b].first <= all[a].last;
      if (!together || apart(all[a].offset, all[a].bytes, all[b].offset, all[b].bytes)) continue;
      const auto x = static_cast<ValueId>(a), y = static_cast<ValueId>(b);
      const bool allowed =
          in_place_allowed(g, x, y, all[a], all[b]) || in_place_allowed(g, y, x, all[b], all[a]);
      EXPECT_TRUE(allowed) << "values " << a << " and " << b << " overlap while both live";
      shared += allowed;
    }
    for (std::size_t s = 0; s < g.steps.size(); ++s) {
      const auto at = static_cast<std::int64_t>(s);
      if (!plan.workspace_bytes[s] || at < all[a].first || at > all[a].last) continue;
      EXPECT_TRUE(apart(all[a].offset, all[a].bytes, plan.workspace_offset[s],
                        static_cast<std::int64_t>(plan.workspace_bytes[s])))
          << "workspace of step " << s << " on value " << a;
    }
  }
  return shared / 2;
}

TEST(MemoryPlan, LiveValuesNeverOverlap) {
  const auto layout = random_layout();
  int shared = 0;
  for (std::uint32_t seed = 1; seed <= 200; ++seed) {
    const auto graph = random_graph(seed, layout, tensor::DType::f32, {.steps = 20});
    const auto plan = plan_memory(graph);
    shared += check_disjoint(graph, plan);
    EXPECT_GE(plan.arena_bytes, plan.live_peak_bytes) << "nothing fits into less than what lives at once";
    EXPECT_LE(plan.arena_bytes, plan.live_peak_bytes * 3 / 2) << "seed " << seed;
    if (HasFailure()) return;
  }
  EXPECT_GT(shared, 200) << "in-place outputs must happen, or the rule above is not tested";
}

/// Gives every value memory of its own: kept to the end, nothing can take its place.
Graph without_sharing(Graph graph) {
  for (std::size_t v = 0; v < graph.values.size(); ++v) {
    auto& value = graph.values[v];
    const bool planned = value.kind == BufferKind::scratch || value.kind == BufferKind::input;
    if (!planned || value.root != static_cast<ValueId>(v) || value.output) continue;
    value.output = true;
    if (value.name.empty()) value.name = "value." + std::to_string(v);
  }
  return graph;
}

/// A program that does nothing but own the whole arena: its input is where all others keep their values.
Graph poison(const ParameterLayout& layout, std::size_t bytes) {
  Builder b("poison", layout, tensor::DType::f32);
  const auto n = static_cast<std::int64_t>(bytes / 4);
  b.output(b.input("everything", {tensor::DType::f32, {n}}), "everything");
  return b.finish();
}

struct Result {
  std::vector<std::byte> loss, gradients;
  bool operator==(const Result&) const = default;
};

TEST(MemoryPlan, SharedArenaGivesTheBitsOfSeparateMemory) {
  int smaller = 0;
  for (std::uint32_t seed = 1; seed <= 100; ++seed) {
    base::ThreadPool pool(2);
    ParameterStore store(random_layout(), {}, true);
    fill_random<float>(store.flat_values(), seed, 0.6);
    Plan plan(store, {{}, base::best_isa(), {}, &pool});
    const auto graph = random_graph(seed, store.layout(), tensor::DType::f32, {.steps = 20});
    auto& shared = plan.add(graph);
    auto& separate = plan.add(without_sharing(graph));
    auto& all = plan.add(poison(store.layout(), 1 << 20));
    plan.allocate();
    ASSERT_EQ(separate.memory().in_place, 0);
    smaller += shared.memory().arena_bytes < separate.memory().arena_bytes / 2;
    auto result = [&](Program& program) {
      // What a kernel reads without it having been written in this run would be NaN.
      std::ranges::fill(all.view("everything").span<float>(), std::numeric_limits<float>::quiet_NaN());
      store.zero_gradients();
      fill_inputs<float>(program, seed);
      program.run();
      return Result{bytes_of(program.view("loss")), bytes_of(store.flat_gradients())};
    };
    const auto expected = result(separate);
    ASSERT_TRUE(std::isfinite(*reinterpret_cast<const float*>(expected.loss.data()))) << "seed " << seed;
    ASSERT_TRUE(expected == result(shared)) << "seed " << seed;
    ASSERT_TRUE(expected == result(shared)) << "a second run, seed " << seed;
  }
  EXPECT_GT(smaller, 60);
}

TEST(MemoryPlan, AnInputReadTwiceByOneStepIsNotOverwritten) {
  const auto layout = random_layout();
  Builder b("twice", layout, tensor::DType::f32);
  const auto x = b.input("x", {tensor::DType::f32, {rows, width}});
  const auto y = b.op1<ops::LeakyReluSquared>({x}, 0.5f);
  b.output(b.op1<ops::ScaledResidual>({y, y, b.parameter("scale.0")}), "z");
  const auto plan = plan_memory(b.finish());
  EXPECT_EQ(plan.in_place, 1) << "y may lie on x, but z not on y";
}

TEST(MemoryPlan, ValuesReadLaterAreNotOverwritten) {
  const auto layout = random_layout();
  Builder b("later", layout, tensor::DType::f32);
  const auto x = b.input("x", {tensor::DType::f32, {rows, width}});
  const auto y = b.op1<ops::LeakyReluSquared>({x}, 0.5f);
  const auto z = b.op1<ops::LeakyReluSquared>({y}, 0.25f);
  b.output(b.op1<ops::Add>({b.reshape(y, {rows, width}), z}), "sum");
  b.output(z, "z");
  const auto graph = b.finish();
  const auto plan = plan_memory(graph);
  check_disjoint(graph, plan);
  EXPECT_EQ(plan.in_place, 2) << "y on x, the sum on y; z is read by the host";
}

/// An operator that may work in place, but whose output is of another size than its input.
class Resize final : public ops::Operator {
 public:
  explicit Resize(std::int64_t elements) : elements(elements) {}
  const std::int64_t elements;
  std::string_view name() const override { return "resize"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override { return {{in[0].dtype, {elements}}}; }
  std::vector<ops::InPlace> in_place() const override { return {{0, 0}}; }
};

TEST(MemoryPlan, AnOutputLargerThanItsInputIsNotPutOverIt) {
  const auto layout = random_layout();
  for (const auto& [elements, in_place] : {std::pair{512, 1}, {1024, 1}, {1025, 0}, {2048, 0}}) {
    SCOPED_TRACE(elements);
    Builder b("resize", layout, tensor::DType::f32);
    const auto x = b.input("x", {tensor::DType::f32, {1024}});
    b.output(b.op1<Resize>({x}, elements), "y");
    const auto graph = b.finish();
    const auto plan = plan_memory(graph);
    EXPECT_EQ(plan.in_place, in_place);
    check_disjoint(graph, plan);
  }
}

TEST(MemoryPlan, AnEmptyGraphNeedsNothing) {
  const auto layout = random_layout();
  const auto plan = plan_memory(Builder("empty", layout, tensor::DType::f32).finish());
  EXPECT_EQ(plan.arena_bytes, 0u);
}

}  // namespace
}  // namespace fairway::graph::testing
