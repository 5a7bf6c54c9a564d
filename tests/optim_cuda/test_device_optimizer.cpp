// The optimiser on a GPU: the CPU's numbers, the same bytes twice, bad gradients, recording, resuming.
#include <limits>

#include "both.h"
#include "fairway/base/error.h"
#include "fairway/optim/average.h"

namespace fairway::optim {
namespace {

using tensor::DType;

Averages all_averages(DType ema) { return {.ema_decay = 0.9, .ema_storage = ema, .swa = true}; }

/// Element-wise updates do the same operations on both sides; only the norm and the bias corrections, double
/// until they are rounded, may differ by a last bit.
void expect_same_elements(const std::vector<ParamRange>& parameters, std::span<const float> gpu,
                          std::span<const float> cpu, bool narrow) {
  for (const auto& p : parameters) {
    EXPECT_LE(relative_distance(gpu, cpu, p.range), narrow ? 1e-4 : 1e-6) << p.name;
    const auto there = p.range.of(gpu), here = p.range.of(cpu);
    for (std::size_t i = 0; i < here.size(); ++i)
      ASSERT_NEAR(there[i], here[i], (narrow ? 0x1p-7 : 1e-5) * std::max(std::abs(here[i]), 0.01f)) << p.name;
  }
}

class DeviceOptimizerTest : public OnGpu {};

using Change = void (*)(TrainingConfig&);

void follows_the_cpu(
    const Layout& layout, int steps, bool narrow, Change change = [](TrainingConfig&) {}) {
  auto config = short_run(DType::f32, narrow ? DType::bf16 : DType::f32);
  change(config);
  const auto averages = all_averages(narrow ? DType::bf16 : DType::f32);
  CpuRun cpu(layout, config, averages);
  GpuRun gpu(layout, config, averages);
  const auto before = cpu.values;
  for (std::int64_t s = 0; s < steps; ++s) {
    const auto there = gpu.step(s);
    const auto here = cpu.step(s);
    ASSERT_TRUE(there.finite);
    ASSERT_NEAR(there.norm, here.norm, 1e-12 * here.norm);
  }
  const auto now = gpu.values.get();
  EXPECT_GE(worst_matrix(layout, before, cpu.values), 0.05) << "the test's steps are too small to tell";
  EXPECT_LE(worst_matrix(layout, now, cpu.values), 1e-4);
  expect_same_elements(layout.parameters.embeddings, now, cpu.values, narrow);
  expect_same_elements(layout.parameters.scalars, now, cpu.values, false);
  for (auto i = static_cast<std::size_t>(layout.parameters.scalars.back().range.end); i < now.size(); ++i)
    ASSERT_EQ(now[i], before[i]) << "frozen";

  std::vector<float> expected(now.size());
  for (const auto average : {Average::ema, Average::swa}) {
    cpu.optimizer->read_average(average, expected);
    const bool rounded = narrow && average == Average::ema;
    EXPECT_LE(relative_distance(gpu.average(average), expected, {0, layout.elements}), rounded ? 1e-3 : 1e-4);
    EXPECT_EQ(gpu.optimizer->average_count(average), cpu.optimizer->average_count(average));
  }
  EXPECT_EQ(gpu.optimizer->average_count(Average::ema), steps);
}

TEST_F(DeviceOptimizerTest, FollowsTheCpuAtOddShapes) { follows_the_cpu(odd_layout(), 20, false); }
TEST_F(DeviceOptimizerTest, FollowsTheCpuWithBf16Storage) { follows_the_cpu(odd_layout(), 20, true); }
TEST_F(DeviceOptimizerTest, FollowsTheCpuAtTheModelsShapes) { follows_the_cpu(model_layout(2), 20, true); }

// Rows of 1, 7, 33 and more columns, some of whose beginnings suit four elements at once.
TEST_F(DeviceOptimizerTest, FollowsTheCpuWithRowsOfLengthOne) {
  const Change rows = [](TrainingConfig& c) {
    c.muon_row_norm = true;
    c.ns_coefficients = NsCoefficients::polar_express;
  };
  follows_the_cpu(odd_layout(), 20, false, rows);
  follows_the_cpu(model_layout(2), 20, true, rows);
}
// Without a clip, whose last bit may differ and tip a rounding.
TEST_F(DeviceOptimizerTest, FollowsTheCpuWithMomentumInBf16) {
  const Change narrow = [](TrainingConfig& c) {
    c.muon_momentum_dtype = DType::bf16;
    c.grad_clip = 0;
  };
  follows_the_cpu(odd_layout(), 20, false, narrow);
  follows_the_cpu(odd_layout(), 20, false, [](TrainingConfig& c) {
    c.muon_momentum_dtype = DType::bf16;
    c.muon_row_norm = true;
    c.grad_clip = 0;
  });
}

TEST_F(DeviceOptimizerTest, AveragesOfTheSameValuesAreTheCpusBytes) {
  const Layout layout = odd_layout();
  for (const auto dtype : {DType::f32, DType::bf16}) {
    const auto config = short_run(DType::f32, dtype);
    GpuRun gpu(layout, config, all_averages(dtype));
    base::ThreadPool pool(2);
    Ema ema(0.9, gpu.values.get(), dtype);
    std::vector<base::Range> narrow;
    if (dtype == DType::bf16)
      for (const auto& p : layout.parameters.embeddings) narrow.push_back(p.range);
    Swa swa(layout.elements, narrow);
    for (std::int64_t s = 0; s < 5; ++s) {
      gpu.set_gradients(s);
      const auto action = s == 0 ? EmaStep::none : s == 1 ? EmaStep::start : EmaStep::update;
      gpu.optimizer->step(values_at(config, s, action));
      gpu.optimizer->enqueue_swa_add();
      const auto now = gpu.values.get();
      if (s == 1) ema.start(now);
      if (s > 1) ema.update(now, pool);
      swa.add(now, pool);
    }
    const auto there = gpu.average(Average::ema);
    EXPECT_EQ(0, std::memcmp(there.data(), ema.values().data(), there.size() * sizeof(float)));
    EXPECT_EQ(gpu.optimizer->average_count(Average::ema), 4);
    std::vector<float> mean(there.size());
    swa.mean(mean, pool);
    EXPECT_EQ(0, std::memcmp(gpu.average(Average::swa).data(), mean.data(), mean.size() * sizeof(float)));
  }
}

TEST_F(DeviceOptimizerTest, Bf16NewtonSchulzIsWithinItsRounding) {
  const Layout layout = model_layout(1);
  CpuRun cpu(layout, short_run(DType::f32, DType::f32));
  GpuRun gpu(layout, short_run(DType::bf16, DType::f32));
  const auto before = cpu.values;
  for (std::int64_t s = 0; s < 3; ++s) cpu.step(s), gpu.step(s);
  const auto now = gpu.values.get();
  for (const auto& m : layout.parameters.matrices) {
    const double apart = relative_distance(now, cpu.values, m.range),
                 moved = relative_distance(before, cpu.values, m.range);
    EXPECT_LE(apart, 3e-2 * moved) << m.name << " [" << m.rows << ", " << m.columns << "]";
    EXPECT_GT(apart, 1e-4 * moved) << "is it bf16?";
  }
}

TEST_F(DeviceOptimizerTest, MeanSquaresAreTheHostsSums) {
  for (const Layout& layout : {odd_layout(), model_layout(1)}) {
    GpuRun run(layout, short_run(DType::f32, DType::f32), {.squares = true});
    auto& optimizer = *run.optimizer;
    EXPECT_EQ(optimizer.save().back().name, "sensitivity.sums");
    EXPECT_TRUE(optimizer.mean_squares().empty());
    MeanSquares expected(layout.parameters.matrices);
    base::ThreadPool pool(2);
    for (std::int64_t s = 0; s < 4; ++s) {
      run.step(s);
      if (s == 1) continue;  // the caller's choice
      optimizer.enqueue_squares();
      expected.add(run.host_gradients, pool);
    }
    const auto means = optimizer.mean_squares(), here = expected.mean();
    ASSERT_EQ(means.size(), here.size());
    for (const auto& [name, mean] : here) EXPECT_NEAR(means.at(name), mean, 1e-12 * mean) << name;
    // A bad step does not count, nor does any until the flag is cleared.
    run.host_gradients[0] = std::numeric_limits<float>::quiet_NaN();
    run.gradients.set(run.host_gradients);
    optimizer.enqueue();
    optimizer.enqueue_squares();
    run.step(0);
    optimizer.enqueue_squares();
    EXPECT_EQ(optimizer.mean_squares(), means);
    // Taken back, and replayed.
    const auto saved = state_of(optimizer);
    auto empty = saved;
    std::ranges::fill(empty.at("sensitivity.sums"), std::byte{0});
    optimizer.enqueue_clear_flag();
    set_state(optimizer, empty);
    ops::cuda::Recording recorded(run.state, [&] { optimizer.enqueue_squares(); });
    EXPECT_TRUE(optimizer.mean_squares().empty());
    run.set_gradients(0);
    recorded.replay();
    EXPECT_GT(optimizer.mean_squares().at("w0"), 0);
    set_state(optimizer, saved);
    EXPECT_EQ(optimizer.mean_squares(), means);
  }
}

void expect_same_state(Optimizer& a, Optimizer& b) {
  const auto first = state_of(a), second = state_of(b);
  ASSERT_EQ(first.size(), second.size());
  for (const auto& [name, bytes] : first) EXPECT_EQ(bytes, second.at(name)) << name;
}

TEST_F(DeviceOptimizerTest, RepeatsToTheByte) {
  for (const Layout& layout : {odd_layout(), model_layout(2)}) {
    const auto config = short_run(DType::bf16, DType::bf16);
    GpuRun one(layout, config, all_averages(DType::f32)), two(layout, config, all_averages(DType::f32));
    for (std::int64_t s = 0; s < 8; ++s) {
      const auto a = one.step(s), b = two.step(s);
      ASSERT_EQ(a.norm, b.norm);
    }
    EXPECT_EQ(one.values.get(), two.values.get());
    expect_same_state(*one.optimizer, *two.optimizer);
  }
}

TEST_F(DeviceOptimizerTest, BadGradientsChangeNothingUntilTheFlagIsCleared) {
  const Layout layout = odd_layout();
  const auto config = short_run(DType::bf16, DType::bf16);
  GpuRun run(layout, config, all_averages(DType::f32)), other(layout, config, all_averages(DType::f32));
  run.step(0), other.step(0);
  for (const auto& [where, bad] :
       {std::pair{layout.parameters.matrices[2].range.begin + 5, std::numeric_limits<float>::quiet_NaN()},
        {layout.parameters.embeddings[0].range.begin + 20'000, std::numeric_limits<float>::infinity()},
        {layout.parameters.scalars.back().range.end - 1, std::numeric_limits<float>::quiet_NaN()}}) {
    fill_gradients(run.base, 1, run.host_gradients);
    run.host_gradients[static_cast<std::size_t>(where)] = bad;
    run.gradients.set(run.host_gradients);
    const auto report = run.optimizer->step(values_at(config, 1));
    run.optimizer->enqueue_swa_add();
    EXPECT_FALSE(report.finite);
    EXPECT_FALSE(std::isfinite(report.norm));
    const auto next = run.step(3);  // good gradients, but the flag holds
    EXPECT_FALSE(next.finite);
    EXPECT_TRUE(std::isfinite(next.norm));
    EXPECT_EQ(run.values.get(), other.values.get());
    expect_same_state(*run.optimizer, *other.optimizer);
    run.optimizer->enqueue_clear_flag();
  }
  EXPECT_TRUE(run.step(1).finite);
  other.step(1);
  EXPECT_EQ(run.values.get(), other.values.get());
  expect_same_state(*run.optimizer, *other.optimizer);
  // The frozen rest may hold anything.
  fill_gradients(run.base, 2, run.host_gradients);
  run.host_gradients.back() = std::numeric_limits<float>::quiet_NaN();
  run.gradients.set(run.host_gradients);
  EXPECT_TRUE(run.optimizer->step(values_at(config, 2)).finite);
}

TEST_F(DeviceOptimizerTest, RecordedStepsEqualDirectOnes) {
  const Layout layout = odd_layout();
  const auto config = short_run(DType::bf16, DType::bf16);
  GpuRun direct(layout, config, all_averages(DType::bf16)),
      replayed(layout, config, all_averages(DType::bf16));
  // The first thing this optimiser does: nothing is left to load or to choose.
  ops::cuda::Recording step(replayed.state, [&] { replayed.optimizer->enqueue(); });
  ops::cuda::Recording snapshot(replayed.state, [&] {
    replayed.optimizer->enqueue_swa_add();
    replayed.optimizer->enqueue_zero_gradients();
  });
  for (std::int64_t s = 0; s < 6; ++s) {
    direct.step(s);
    replayed.set_gradients(s);
    replayed.optimizer->prepare(values_at(config, s));
    step.replay();
    if (s % 3 == 0) snapshot.replay();
  }
  EXPECT_EQ(direct.values.get(), replayed.values.get());
  expect_same_state(*direct.optimizer, *replayed.optimizer);
  snapshot.replay();
  for (const float g : replayed.gradients.get()) ASSERT_EQ(g, 0.0f);
}

TEST_F(DeviceOptimizerTest, StepsMayBePreparedAhead) {
  const Layout layout = model_layout(1);
  const auto config = short_run(DType::bf16, DType::f32);
  GpuRun waiting(layout, config), ahead(layout, config);
  waiting.set_gradients(0), ahead.set_gradients(0);
  std::vector<double> norms;
  for (std::int64_t s = 0; s < 20; ++s) {
    waiting.optimizer->step(values_at(config, s));
    ahead.optimizer->prepare(values_at(config, s));
    ahead.optimizer->enqueue();
    ahead.optimizer->enqueue_report();
    if (s >= Optimizer::max_reports - 1) norms.push_back(ahead.optimizer->report().norm);
  }
  EXPECT_EQ(waiting.values.get(), ahead.values.get());
  for (const double norm : norms) EXPECT_EQ(norm, norms.front());
  EXPECT_GT(norms.front(), 0.0);
}

TEST_F(DeviceOptimizerTest, StateMovesBetweenCpuAndGpu) {
  const Layout layout = odd_layout();
  const auto config = short_run(DType::f32, DType::bf16);
  const auto averages = all_averages(DType::bf16);
  CpuRun cpu(layout, config, averages);
  for (std::int64_t s = 0; s < 4; ++s) cpu.step(s);
  GpuRun gpu(layout, config, averages);
  const auto here = cpu.optimizer->save(), there = gpu.optimizer->save();
  ASSERT_EQ(here.size(), there.size());
  for (std::size_t i = 0; i < here.size(); ++i) {
    EXPECT_EQ(here[i].name, there[i].name);
    EXPECT_EQ(here[i].bytes.size(), there[i].bytes.size()) << here[i].name;
  }
  set_state(*gpu.optimizer, state_of(*cpu.optimizer));
  gpu.values.set(cpu.values);
  expect_same_state(*gpu.optimizer, *cpu.optimizer);

  // Onwards on the GPU, and from there back to another CPU run.
  gpu.step(4), cpu.step(4);
  CpuRun back(layout, config, averages);
  std::ranges::copy(gpu.values.get(), back.values.begin());  // in place: the optimiser holds views
  set_state(*back.optimizer, state_of(*gpu.optimizer));
  for (std::int64_t s = 5; s < 8; ++s) gpu.step(s), cpu.step(s), back.step(s);
  const auto now = gpu.values.get();
  EXPECT_LE(worst_matrix(layout, now, cpu.values), 1e-4);
  EXPECT_LE(worst_matrix(layout, back.values, cpu.values), 1e-4);
  expect_same_elements(layout.parameters.embeddings, now, cpu.values, true);
  expect_same_elements(layout.parameters.embeddings, back.values, cpu.values, true);

  const std::vector<std::byte> few(3);
  EXPECT_THROW(gpu.optimizer->restore([&](auto, auto) { return std::span(few); }), base::Error);
}

TEST_F(DeviceOptimizerTest, ResumedRunEqualsUninterrupted) {
  const Layout layout = odd_layout();
  const auto config = short_run(DType::bf16, DType::bf16);
  const auto averages = all_averages(DType::f32);
  GpuRun whole(layout, config, averages), first(layout, config, averages), second(layout, config, averages);
  for (std::int64_t s = 0; s < 8; ++s) whole.step(s);
  for (std::int64_t s = 0; s < 4; ++s) first.step(s);
  second.values.set(first.values.get());
  set_state(*second.optimizer, state_of(*first.optimizer));
  for (std::int64_t s = 4; s < 8; ++s) second.step(s);
  EXPECT_EQ(whole.values.get(), second.values.get());
  expect_same_state(*whole.optimizer, *second.optimizer);
}

TEST_F(DeviceOptimizerTest, ZeroGradientsOnlyDecay) {
  const Layout layout = model_layout(1);
  auto config = short_run(DType::bf16, DType::f32);
  config.muon_weight_decay = 0.5;
  GpuRun run(layout, config);
  const auto before = run.values.get();
  run.optimizer->enqueue_zero_gradients();
  run.optimizer->step(values_at(config, 0));
  const auto now = run.values.get();
  const auto decay = static_cast<float>(1.0 - 0.025 * 0.5);
  for (std::int64_t i = 0; i < layout.parameters.embeddings.front().range.begin; ++i)
    ASSERT_EQ(now[static_cast<std::size_t>(i)], before[static_cast<std::size_t>(i)] * decay);
}

TEST_F(DeviceOptimizerTest, WeightDecayTapersToTheCpusByte) {
  const Layout layout = odd_layout();
  for (const auto dtype : {DType::f32, DType::bf16}) {
    auto config = short_run(dtype, DType::f32);
    config.muon_weight_decay = 0.5;
    config.muon_decay_taper = {.start = 0.5, .end = 0.2};
    CpuRun cpu(layout, config);
    GpuRun gpu(layout, config);
    const auto before = cpu.values;
    ops::cuda::Recording recorded(gpu.state, [&] { gpu.optimizer->enqueue(); });
    for (const double part : {0.25, 0.75, 1.0}) {
      const auto values = step_values(config, 0.7, 0, EmaStep::none, part);
      std::ranges::fill(cpu.gradients, 0.0f);  // then matrices only decay
      gpu.optimizer->enqueue_zero_gradients();
      cpu.optimizer->step(values);
      gpu.optimizer->prepare(values);
      recorded.replay();
      const auto now = gpu.values.get();
      for (const auto& m : layout.parameters.matrices)
        ASSERT_EQ(0, std::memcmp(m.range.of(std::span<const float>(now)).data(),
                                 m.range.of(std::span<const float>(cpu.values)).data(),
                                 static_cast<std::size_t>(m.range.size()) * sizeof(float)))
            << m.name << " at " << part;
    }
    EXPECT_NE(cpu.values, before);
  }
  follows_the_cpu(layout, 20, false,
                  [](TrainingConfig& c) { c.muon_decay_taper = {.start = 0, .end = 0.5}; });
}

TEST_F(DeviceOptimizerTest, RanksAreClippedOnTheirOwn) {
  constexpr int ranks = 3;
  const Layout layout = odd_layout();
  auto config = short_run(DType::f32, DType::f32);
  config.clip = Clip::rank;
  CpuRun cpu(layout, config, {}, ranks);
  GpuRun gpu(layout, config, {}, ranks), recorded(layout, config, {}, ranks);
  ops::cuda::Recording begin(recorded.state, [&] { recorded.optimizer->enqueue_zero_gradients(); });
  ops::cuda::Recording rank(recorded.state, [&] { recorded.optimizer->enqueue_add_rank(); });
  ops::cuda::Recording step(recorded.state, [&] { recorded.optimizer->enqueue(); });
  const auto before = cpu.values;
  for (std::int64_t s = 0; s < 12; ++s) {
    cpu.optimizer->enqueue_zero_gradients();
    gpu.optimizer->enqueue_zero_gradients();
    begin.replay();
    for (std::int64_t r = 0; r < ranks; ++r) {  // some are clipped, some are not
      fill_gradients(cpu.base, ranks * s + r, cpu.gradients);
      gpu.gradients.set(cpu.gradients);
      recorded.gradients.set(cpu.gradients);
      cpu.optimizer->enqueue_add_rank();
      gpu.optimizer->enqueue_add_rank();
      rank.replay();
      EXPECT_EQ(gpu.gradients.get(), std::vector<float>(cpu.gradients.size())) << "cleared";
    }
    const auto here = cpu.optimizer->step(values_at(config, s)),
               there = gpu.optimizer->step(values_at(config, s));
    recorded.optimizer->prepare(values_at(config, s));
    step.replay();
    ASSERT_TRUE(there.finite);
    ASSERT_NEAR(there.norm, here.norm, 1e-12 * here.norm);
  }
  const auto now = gpu.values.get();
  EXPECT_GE(worst_matrix(layout, before, cpu.values), 0.05) << "the test's steps are too small to tell";
  EXPECT_LE(worst_matrix(layout, now, cpu.values), 1e-4);
  expect_same_elements(layout.parameters.embeddings, now, cpu.values, false);
  expect_same_elements(layout.parameters.scalars, now, cpu.values, false);
  EXPECT_EQ(recorded.values.get(), now);

  // A rank that is not finite.
  gpu.optimizer->enqueue_zero_gradients();
  cpu.gradients[0] = std::numeric_limits<float>::quiet_NaN();
  gpu.gradients.set(cpu.gradients);
  gpu.optimizer->enqueue_add_rank();
  gpu.optimizer->enqueue_add_rank();
  EXPECT_FALSE(gpu.optimizer->step(values_at(config, 3)).finite);
  EXPECT_EQ(gpu.values.get(), now);
  gpu.optimizer->enqueue_clear_flag();
  gpu.optimizer->enqueue_zero_gradients();
  fill_gradients(cpu.base, 0, cpu.gradients);
  gpu.gradients.set(cpu.gradients);
  gpu.optimizer->enqueue_add_rank();
  EXPECT_TRUE(gpu.optimizer->step(values_at(config, 3)).finite);

  GpuRun one(layout, config, {}, 1), whole(layout, short_run(DType::f32, DType::f32));
  one.set_gradients(0);
  one.optimizer->enqueue_add_rank();
  EXPECT_EQ(one.optimizer->step(values_at(config, 0)).norm, whole.step(0).norm);
  EXPECT_EQ(one.values.get(), whole.values.get());
}

TEST_F(DeviceOptimizerTest, RejectsOverlapAndOtherSizes) {
  Layout layout = odd_layout();
  layout.parameters.embeddings[0].range.begin = layout.parameters.matrices.back().range.begin;
  EXPECT_THROW(GpuRun(layout, short_run(DType::f32, DType::f32)), base::Error);
  layout = odd_layout();
  ops::cuda::State state({tensor::DeviceKind::cuda, 0});
  const std::vector<float> host(static_cast<std::size_t>(layout.elements));
  DeviceFloats values(state, host), gradients(state, std::span(host).first(100));
  const auto config = optimizer_config({}, layout.parameters);
  EXPECT_THROW(make_optimizer(config, values.view(), gradients.view(), nullptr, &state), base::Error);
}

}  // namespace
}  // namespace fairway::optim
