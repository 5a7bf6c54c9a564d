// A model on a device, here the CPU: what its programs read and when that is renewed, which programs there
// are, and steps over micro-batches.
#include "fairway/base/error.h"
#include "fairway/exec/micro_batch.h"
#include "fairway/exec/window_programs.h"

#include "exec/small.h"
#include "fairway/base/random.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fairway::exec {
namespace {

using testing::small_config, testing::with_threads;

const Form folded = {tensor::DType::f32, graph::all_passes()};
int int6(const graph::Parameter&) { return 31; }

class Runner : public ::testing::Test {
 protected:
  Runner() : engine_(with_threads(2)), weights_(model::make_layout(config_), {}, false) {
    model::initialise(weights_, 3, engine_.pool());
    move(weights_, 0);
    const base::Random random(7, "tokens");
    for (std::uint64_t i = 0; i < 4 * 16 + 1; ++i)
      text_.push_back(static_cast<std::int32_t>(random.below(i, 48)));
  }
  /// Other weights, none of them zero.
  void move(graph::ParameterStore& store, std::uint64_t seed) const {
    const base::Random noise(seed, "noise");
    std::uint64_t i = 0;
    for (const auto& p : store.layout().parameters())
      for (auto& v : store.value(p.name).span<float>()) v += 0.05f * static_cast<float>(noise.normal(i++));
  }
  std::span<const std::int32_t> tokens(std::size_t n) const { return std::span(text_).first(n); }
  std::span<const std::int32_t> targets(std::size_t n) const { return std::span(text_).subspan(1, n); }

  /// nats of a row of text.
  std::vector<float> score(WindowPrograms& scorer) const {
    std::vector<float> nll(16);
    scorer.score(tokens(16), targets(16), 16, nll);
    return nll;
  }
  std::vector<float> scores_of(ModelRunner& runner) const {
    WindowPrograms scorer(runner, 1);
    scorer.add(16);
    runner.allocate();
    return score(scorer);
  }
  /// A step over `rows` rows of text, whose tokens weigh as much each.
  void step(ModelRunner& runner, graph::Program& program, std::int64_t rows, int in_batch) const {
    runner.begin_step();
    runner.zero_gradients();
    runner.forward_backward(program, rows / in_batch, [&](std::int64_t i, const MicroBatch& batch) {
      const auto n = batch.tokens.size(), at = static_cast<std::size_t>(i) * n;
      std::ranges::copy(std::span(text_).subspan(at, n), batch.tokens.begin());
      std::ranges::copy(std::span(text_).subspan(at + 1, n), batch.targets.begin());
      std::ranges::fill(batch.weights, 1.0f / static_cast<float>(rows * 16));
    });
    runner.end_step();
  }

  const model::ModelConfig config_ = small_config();
  Engine engine_;
  graph::ParameterStore weights_;
  std::vector<std::int32_t> text_;
};

void expect_near(std::span<const float> a, std::span<const float> b, double tolerance) {
  ASSERT_EQ(a.size(), b.size());
  for (std::size_t i = 0; i < a.size(); ++i)
    ASSERT_NEAR(static_cast<double>(a[i]), static_cast<double>(b[i]), tolerance) << i;
}

TEST(MicroBatches, OnePlaceSaysHowLargeTheyAre) {
  const tensor::Device cpu, gpu{tensor::DeviceKind::cuda, 0};
  EXPECT_EQ(rows_for(full_rate_tokens(cpu), 2048), 2);
  EXPECT_EQ(rows_for(full_rate_tokens(gpu), 2048), 48);
  EXPECT_EQ(rows_for(adaptation_tokens(gpu), 2048), 64);
  EXPECT_EQ(rows_for(adaptation_tokens(cpu), 2048), 2);
  EXPECT_EQ(rows_for(100, 2048), 1) << "a window longer than the batch";
  EXPECT_EQ(rows_for(100'000, 16, 5), 5) << "no more than there are";
  EXPECT_EQ(rows_for(100'000, 16, 0), 1);
}

TEST(MicroBatches, AreTheLargestDivisorThatFits) {
  const auto always = [](int) { return true; };
  EXPECT_EQ(largest_divisor(12, 5, always), 4);
  EXPECT_EQ(largest_divisor(12, 12, always), 12);
  EXPECT_EQ(largest_divisor(7, 6, always), 1);
  EXPECT_EQ(largest_divisor(12, 12, [](int n) { return n <= 3; }), 3);
  EXPECT_EQ(largest_divisor(12, 12, [](int) { return false; }), 0);
}

TEST_F(Runner, ReadsWeightsThatItWasHandedWhereTheyAre) {
  ModelRunner runner(config_, weights_, engine_);
  EXPECT_EQ(&runner.weights(), &weights_);
  WindowPrograms scorer(runner, 1);
  scorer.add(16);
  runner.allocate();
  const auto before = score(scorer);
  move(weights_, 1);
  EXPECT_NE(score(scorer), before) << "without a copy a change is seen at once";
  EXPECT_EQ(runner.refresh_program(ComputeWeights::plain), nullptr);
}

TEST_F(Runner, KnowsWhenItsComputeWeightsAreOld) {
  ModelRunner runner(config_, weights_, engine_, {.form = folded});
  ASSERT_NE(&runner.weights(), &weights_);
  WindowPrograms scorer(runner, 1);
  scorer.add(16);
  runner.allocate();
  ModelRunner plain(config_, weights_, engine_);
  const auto before = score(scorer);
  expect_near(before, scores_of(plain), 1e-5);
  move(weights_, 1);
  EXPECT_EQ(score(scorer), before) << "the copy is the runner's";
  runner.reload();
  const auto after = score(scorer);
  EXPECT_NE(after, before);
  ModelRunner moved(config_, weights_, engine_);
  expect_near(after, scores_of(moved), 1e-5);

  for (auto& v : runner.weights().value("blocks.0.mlp.fc.weight").span<float>()) v *= 1.5f;
  EXPECT_EQ(score(scorer), after) << "nobody said that the weights changed";
  runner.weights_changed();
  EXPECT_NE(score(scorer), after);
}

TEST_F(Runner, ComputeWeightsAreOfTheKindThatIsWanted) {
  ModelRunner runner(config_, engine_, {.quantise = int6});
  auto& program = runner.add({.mode = model::Mode::score});
  runner.allocate();
  write_weights(runner.weights(), read_weights(weights_));
  const auto score = [&](ComputeWeights kind) {
    runner.prepare(kind);
    program.write("tokens", tokens(16));
    program.write("targets", targets(16));
    program.run();
    std::vector<float> nll(16);
    program.read<float>("nll", nll);
    return nll;
  };
  const auto plain = score(ComputeWeights::plain), quantised = score(ComputeWeights::quantised);
  EXPECT_NE(plain, quantised);
  EXPECT_EQ(score(ComputeWeights::quantised), quantised);
  EXPECT_EQ(score(ComputeWeights::plain), plain);
  ModelRunner unquantised(config_, weights_, engine_);
  EXPECT_EQ(plain, scores_of(unquantised));
}

TEST_F(Runner, SnapshotsBringWeightsBack) {
  ModelRunner runner(config_, engine_, {.form = folded});
  WindowPrograms scorer(runner, 1);
  scorer.add(16);
  runner.allocate();
  write_weights(runner.weights(), read_weights(weights_));
  const auto before = score(scorer);
  Snapshot saved;
  runner.save(saved);
  move(runner.weights(), 1);
  runner.weights_changed();
  EXPECT_NE(score(scorer), before);
  runner.load(saved);
  EXPECT_EQ(score(scorer), before);
}

TEST_F(Runner, HasTheProgramsThatWereListedAndBuildsNoOther) {
  ModelRunner runner(config_, weights_, engine_);
  WindowPrograms scorer(runner, 1);
  auto& whole = scorer.add(16);
  EXPECT_EQ(&scorer.add(16), &whole) << "a length has one program";
  EXPECT_THROW(score(scorer), base::Error) << "a program ran before it had memory";
  runner.allocate();
  const auto built = runner.programs();
  EXPECT_EQ(built, 1u);
  const auto first = score(scorer);
  runner.allocate();
  EXPECT_EQ(score(scorer), first);
  EXPECT_EQ(runner.programs(), built) << "a second use built something";
  scorer.add(4);  // what comes later is planned with what is there
  runner.allocate();
  EXPECT_EQ(runner.programs(), built + 1);
  EXPECT_EQ(score(scorer), first);
}

TEST_F(Runner, AStepIsTheSumOfItsMicroBatches) {
  std::vector<float> gradients[2];
  double losses[2];
  for (const int rows : {4, 1}) {
    ModelRunner runner(config_, engine_, {.trains = true, .micro_batches = 4 / rows});
    auto& program = runner.add({.rows = rows});
    runner.allocate();
    write_weights(runner.weights(), read_weights(weights_));
    step(runner, program, 4, rows);
    losses[rows == 1] = runner.take_step().loss;
    const auto all = runner.weights().flat_gradients().span<float>();
    gradients[rows == 1].assign(all.begin(), all.end());
  }
  EXPECT_NEAR(losses[0], losses[1], 1e-6);
  EXPECT_GT(losses[0], 1);
  expect_near(gradients[0], gradients[1], 1e-6);
}

TEST_F(Runner, LossesComeInTheOrderOfTheirSteps) {
  ModelRunner runner(config_, engine_, {.trains = true, .micro_batches = 2});
  auto& program = runner.add({});
  runner.allocate();
  write_weights(runner.weights(), read_weights(weights_));
  EXPECT_EQ(runner.depth(), 0) << "on the CPU nothing is queued";
  step(runner, program, 1, 1);
  step(runner, program, 2, 1);
  EXPECT_THROW(step(runner, program, 1, 1), base::Error) << "a third step whose losses have no place";
  const double one = runner.take_step().loss, two = runner.take_step().loss;
  EXPECT_NE(one, two);
  step(runner, program, 2, 1);
  EXPECT_EQ(runner.take_step().loss, two);
  EXPECT_THROW(runner.take_step().loss, base::Error);
  EXPECT_THROW(step(runner, program, 4, 1), base::Error) << "more micro-batches than were planned";
}

/// What one program folds into a compute weight, every other one that reads it expects there.
TEST_F(Runner, ProgramsOverOneSetOfComputeWeightsAgreeOnTheirFolds) {
  struct Numbers {
    std::vector<float> nll, last, logits, gradients;
    double loss = 0;
  };
  const auto numbers = [&](const Form& form, ComputeWeights kind) {
    ModelRunner runner(config_, engine_, {.trains = true, .quantise = int6, .form = form});
    auto& train = runner.add({.trainable = [](std::string_view name) { return name != "tok_emb.weight"; }});
    auto& logits = runner.add({.mode = model::Mode::logits});
    WindowPrograms scorer(runner, 1);
    scorer.add(16);
    scorer.add(4);
    runner.allocate();
    write_weights(runner.weights(), read_weights(weights_));
    Numbers n;
    n.nll = score(scorer);
    n.last.resize(4);
    scorer.score(tokens(16), targets(16).last(4), 4, n.last);
    n.logits.resize(16 * 48);
    logits.write("tokens", tokens(16));
    logits.run();
    logits.read<float>("logits", n.logits);
    runner.prepare(kind);
    step(runner, train, 1, 1);
    runner.unfold(train, kind);
    n.loss = runner.take_step().loss;
    const auto all = runner.weights().flat_gradients().span<float>();
    n.gradients.assign(all.begin(), all.end());
    return n;
  };
  for (const auto kind : {ComputeWeights::plain, ComputeWeights::quantised}) {
    const auto a = numbers({}, kind), b = numbers(folded, kind);
    expect_near(a.nll, b.nll, 1e-5);
    expect_near(a.last, b.last, 1e-5);
    expect_near(a.logits, b.logits, 1e-4);
    expect_near(std::span(a.nll).last(4), a.last, 1e-5);
    EXPECT_NEAR(a.loss, b.loss, 1e-5);
    expect_near(a.gradients, b.gradients, 1e-5);
  }
}

TEST_F(Runner, WhatIsPlannedIsKnownBeforehand) {
  const ProgramSpec spec{.rows = 4};
  const auto planned = planned_bytes(config_, engine_, tensor::DType::f32, spec);
  ModelRunner runner(config_, weights_, engine_, {.trains = true});
  runner.add(spec);
  const auto table = runner.memory_table();
  EXPECT_EQ(graph::total_bytes(table), planned + runner.weights().bytes());
  EXPECT_GT(planned_bytes(config_, engine_, tensor::DType::f32, {.rows = 8}), planned);
}

}  // namespace
}  // namespace fairway::exec
