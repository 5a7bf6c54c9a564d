// Gradients of whole recorded computations against finite differences in double, and what derivation leaves
// out.
#include "random_graph.h"

#include "fairway/base/error.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace fairway::graph::testing {
namespace {

/// One store in double, one plan, loss and gradients of a graph.
class Bench {
 public:
  explicit Bench(ParameterLayout layout, std::uint32_t seed)
      : pool(2),
        store(std::move(layout), {}, true, tensor::DType::f64),
        plan(store, {{}, base::best_isa(), {}, &pool}) {
    fill_random<double>(store.flat_values(), seed, 0.6);
  }
  Program& add(Graph graph) {
    auto& program = plan.add(std::move(graph));
    plan.allocate();
    return program;
  }
  double loss(Program& program, std::uint32_t seed) {
    fill_inputs<double>(program, seed);
    program.run();
    return program.view("loss").span<double>()[0];
  }
  base::ThreadPool pool;
  ParameterStore store;
  Plan plan;
};

/// Central difference along a random direction in one parameter.
double slope(Bench& bench, Program& forward, std::span<double> values, std::span<const double> direction,
             std::uint32_t seed) {
  const double h = 1e-5;
  const std::vector<double> before(values.begin(), values.end());
  auto shifted = [&](double by) {
    for (std::size_t i = 0; i < values.size(); ++i) values[i] = before[i] + by * direction[i];
    return bench.loss(forward, seed);
  };
  const double result = (shifted(h) - shifted(-h)) / (2 * h);
  std::ranges::copy(before, values.begin());
  return result;
}

void check_gradients(Bench& bench, Program& train, Program& forward, std::uint32_t seed,
                     const std::set<std::string>& frozen, int& nonzero) {
  std::ranges::fill(bench.store.flat_gradients().span<double>(), 0.0);
  const double loss = bench.loss(train, seed);
  EXPECT_EQ(loss, bench.loss(forward, seed)) << "backward must not change the forward value";
  std::uint32_t salt = 0;
  for (const auto& p : bench.store.layout().parameters()) {
    const auto gradient = bench.store.gradient(p.name).span<double>();
    if (frozen.count(p.name)) {
      EXPECT_TRUE(std::ranges::all_of(gradient, [](double g) { return g == 0; })) << p.name << " is frozen";
      continue;
    }
    tensor::Array direction({tensor::DType::f64, p.shape});
    fill_random<double>(direction.view(), seed * 97 + salt++);
    double along = 0, norm = 0;
    for (std::size_t i = 0; i < gradient.size(); ++i) {
      along += gradient[i] * direction.span<double>()[i];
      norm += std::abs(gradient[i]);
    }
    nonzero += norm > 0;
    const double numeric =
        slope(bench, forward, bench.store.value(p.name).span<double>(), direction.span<double>(), seed);
    EXPECT_NEAR(along, numeric, 2e-6 * (1 + norm)) << p.name << ", seed " << seed;
  }
}

TEST(Derivation, RandomGraphsAgreeWithFiniteDifferences) {
  int nonzero = 0;
  for (std::uint32_t seed = 1; seed <= 60; ++seed) {
    Bench bench(random_layout(), seed);
    const auto& layout = bench.store.layout();
    auto& train = bench.add(random_graph(seed, layout, tensor::DType::f64));
    auto& forward = bench.add(random_graph(seed, layout, tensor::DType::f64, {.backward = false}));
    check_gradients(bench, train, forward, seed, {}, nonzero);
    if (HasFailure()) return;
  }
  EXPECT_GT(nonzero, 200) << "the graphs must reach most parameters, or this tests nothing";
}

TEST(Derivation, FrozenParametersGetNothingAndOthersStayRight) {
  const std::vector<std::set<std::string>> choices = {
      {"single"}, {"part.0", "part.1", "part.2"}, {"mix", "gamma"}, {"scale.0", "scalar", "single", "gamma"}};
  int nonzero = 0;
  for (std::uint32_t seed = 101; seed <= 124; ++seed) {
    const auto& frozen = choices[seed % choices.size()];
    Bench bench(random_layout(), seed);
    const auto& layout = bench.store.layout();
    auto& train = bench.add(random_graph(seed, layout, tensor::DType::f64, {.frozen = frozen}));
    // The reference has the same frozen set: it decides which matrices the generator may draw.
    auto& forward =
        bench.add(random_graph(seed, layout, tensor::DType::f64, {.frozen = frozen, .backward = false}));
    check_gradients(bench, train, forward, seed, frozen, nonzero);
    if (HasFailure()) return;
  }
  EXPECT_GT(nonzero, 60);
}

ParameterLayout chain_layout(int layers) {
  ParameterLayout layout;
  for (int i = 0; i < layers; ++i) layout.add({.name = "w." + std::to_string(i), .shape = {64, 64}});
  layout.finish();
  return layout;
}

/// x -> leaky(W x) ... -> loss.
Graph chain(const ParameterLayout& layout, int layers,
            const std::function<bool(std::string_view)>& trainable) {
  Builder b("chain", layout, tensor::DType::f32, trainable);
  auto x = b.input("x", {tensor::DType::f32, {256, 64}});
  for (int i = 0; i < layers; ++i) {
    b.scope("layer." + std::to_string(i));
    x = b.linear(x, b.parameter("w." + std::to_string(i)));
    x = b.op1<ops::LeakyReluSquared>({x}, 0.5f);
    x = b.op1<ops::RmsNorm>({x}, 1.0f, 1e-5f);
  }
  const auto weights = b.input("weights", {tensor::DType::f32, {256 * 64}});
  const auto loss = b.op1<ops::WeightedSum>({b.reshape(x, {256 * 64}), weights});
  b.output(loss, "loss");
  return b.finish({}, loss);
}

TEST(Derivation, NothingIsDoneBelowTheLowestTrainableParameter) {
  constexpr int layers = 6;
  const auto layout = chain_layout(layers);
  auto backward_scopes = [&](const std::function<bool(std::string_view)>& trainable) {
    std::multiset<std::string> scopes;
    for (const auto& step : chain(layout, layers, trainable).steps)
      if (step.is_backward) scopes.insert(step.scope);
    return scopes;
  };
  const auto all = backward_scopes([](auto) { return true; });
  const auto top = backward_scopes([](auto name) { return name == "w.4"; });
  for (int i = 0; i < 4; ++i) EXPECT_EQ(top.count("layer." + std::to_string(i)), 0u) << i;
  EXPECT_GT(top.count("layer.5"), 0u) << "the gradient passes through the frozen layer above";
  EXPECT_GT(all.count("layer.5"), top.count("layer.5")) << "but its weights get none";
  EXPECT_GT(all.count("layer.0"), 0u);
  EXPECT_TRUE(backward_scopes([](auto) { return false; }).empty());
}

TEST(Derivation, GradientsAddUpOverRuns) {
  Bench bench(random_layout(), 7);
  auto& train = bench.add(random_graph(7, bench.store.layout(), tensor::DType::f64));
  bench.loss(train, 7);
  const auto flat = bench.store.flat_gradients().span<double>();
  const std::vector<double> once(flat.begin(), flat.end());
  bench.loss(train, 7);
  for (std::size_t i = 0; i < flat.size(); ++i)
    EXPECT_NEAR(flat[i], 2 * once[i], 1e-12 * (1 + std::abs(once[i])));
}

TEST(Derivation, TrainingNeedsAStoreWithGradients) {
  base::ThreadPool pool(1);
  ParameterStore store(random_layout(), {}, false);
  Plan plan(store, {{}, base::best_isa(), {}, &pool});
  plan.add(random_graph(1, store.layout(), tensor::DType::f32));
  EXPECT_THROW(plan.allocate(), base::Error);
}

TEST(Derivation, ValuesNobodyReadsAreNotComputed) {
  const auto layout = random_layout();
  Builder b("dead", layout, tensor::DType::f32);
  const auto x = b.input("x", {tensor::DType::f32, {rows, width}});
  b.op1<ops::LeakyReluSquared>({b.linear(x, b.parameter("single"))}, 0.5f);
  const auto live = b.op<ops::ResidualNorm>({x, x, b.parameter("scale.0")}, 1.0f, 1e-5f);
  b.output(live[1], "z");
  const auto graph = b.finish();
  ASSERT_EQ(graph.steps.size(), 1u);
  EXPECT_EQ(graph.steps[0].op->name(), "residual_norm");
  EXPECT_EQ(graph.steps[0].out[0], absent) << "an unwanted output is skipped by the kernel";
}

/// Stands for a product whose left side is read elsewhere (input 2) than where its gradient goes (input 0),
/// and whose backward has two steps that share what a third makes.
class ReadElsewhere final : public ops::Operator {
 public:
  std::string_view name() const override { return "read_elsewhere"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override { return {in[2]}; }
  std::vector<int> gradient_only() const override { return {0}; }
  std::vector<ops::BackwardStep> backward() const override {
    return {{std::make_shared<const ops::Add>(), {ops::grad(0), ops::input(2)}, {ops::to_temporary(0)}},
            {std::make_shared<const ops::Matmul>(true, false, ops::ProductResult::wide),
             {ops::temporary(0), ops::input(2)},
             {1}},
            {std::make_shared<const ops::Copy>(), {ops::temporary(0)}, {0}}};
  }
};

Graph read_elsewhere(const ParameterLayout& layout, std::function<bool(std::string_view)> trainable) {
  Builder b("elsewhere", layout, tensor::DType::f32, std::move(trainable));
  const auto x = b.input("x", {tensor::DType::f32, {rows, width}});
  const auto pair = b.op<ops::ResidualNorm>({x, x, b.parameter("scale.0")}, 1.0f, 1e-5f);
  const auto h = b.op1<ReadElsewhere>({pair[1], b.parameter("single"), pair[0]});
  const auto ones = b.input("ones", {tensor::DType::f32, {rows * width}});
  const auto loss = b.op1<ops::WeightedSum>({b.reshape(h, {rows * width}), ones});
  b.output(loss, "loss");
  return b.finish({}, loss);
}

TEST(Derivation, ATokenIsNeverMadeAndItsGradientArrives) {
  const auto graph = read_elsewhere(random_layout(), [](auto) { return true; });
  std::vector<std::string_view> names;
  for (const auto& step : graph.steps) names.push_back(step.op->name());
  const std::vector<std::string_view> expected = {
      "residual_norm", "read_elsewhere", "weighted_sum", "weighted_sum_backward",
      "add",           "matmul",         "copy",         "residual_norm_backward"};
  ASSERT_EQ(names, expected);
  const auto& steps = graph.steps;
  EXPECT_EQ(steps[0].out[1], absent) << "nobody reads the normed rows";
  EXPECT_EQ(steps[1].in[0], absent);
  EXPECT_EQ(steps[5].in[0], steps[4].out[0]);
  EXPECT_EQ(steps[6].in[0], steps[4].out[0]) << "both read the temporary";
  EXPECT_EQ(steps[7].in[5], steps[6].out[0]) << "the token's gradient goes through the norm";
}

TEST(Derivation, TemporariesOfFrozenParametersAreDropped) {
  const auto frozen_scale = read_elsewhere(random_layout(), [](auto name) { return name == "single"; });
  const auto has = [](const Graph& graph, std::string_view name) {
    return std::ranges::any_of(graph.steps, [&](const Step& s) { return s.op->name() == name; });
  };
  EXPECT_TRUE(has(frozen_scale, "matmul"));
  EXPECT_FALSE(has(frozen_scale, "copy"));
  const auto frozen = read_elsewhere(random_layout(), {});
  EXPECT_FALSE(has(frozen, "add")) << "nobody reads the temporary";
}

TEST(Derivation, ALossOfSeveralNumbersIsRefused) {
  const auto layout = random_layout();
  for (const tensor::Shape& shape : {tensor::Shape{2}, {rows, width}}) {
    Builder b("several", layout, tensor::DType::f32, [](auto) { return true; });
    const auto x = b.input("x", {tensor::DType::f32, shape});
    std::string error;
    try {
      b.finish({}, b.op1<ops::LeakyReluSquared>({x}, 0.5f));
    } catch (const base::Error& e) {
      error = e.what();
    }
    EXPECT_NE(error.find("loss has shape"), error.npos) << error;
  }
}

TEST(Builder, PackedPartsMustAgreeOnTraining) {
  const auto layout = random_layout();
  Builder b("mixed", layout, tensor::DType::f32, [](auto name) { return name == "part.1"; });
  EXPECT_THROW(b.parameter("packed"), base::Error);
}

TEST(Builder, RefusesWrongShapesAndSlices) {
  const auto layout = random_layout();
  Builder b("wrong", layout, tensor::DType::f32);
  const auto x = b.input("x", {tensor::DType::f32, {rows, width}});
  EXPECT_THROW(b.reshape(x, {rows, width + 1}), base::Error);
  EXPECT_THROW(b.slice(x, 0, {1}), base::Error) << "only parameters are sliced";
  EXPECT_THROW(b.slice(b.parameter("single"), width, {width, width}), base::Error);
  EXPECT_THROW(b.op1<ops::Add>({x, b.parameter("scale.0")}), base::Error);
  EXPECT_THROW(b.update_state(x, x), base::Error);
}

}  // namespace
}  // namespace fairway::graph::testing
