// The optimiser on a GPU: the CPU's numbers, the same bytes twice, bad gradients, recording, resuming.
#include <limits>

#include "both.h"
#include "fairway/base/error.h"

namespace fairway::optim {
namespace {

DeviceAverages averages_of(const Layout& layout, bool narrow) {
  return {.ema_decay = 0.9,
          .ema_storage = narrow ? Storage::bf16 : Storage::f32,
          .swa = true,
          .swa_bf16_ranges = narrow ? layout.map.tables : std::vector<FlatRange>{}};
}

/// Element-wise updates do the same operations on both sides; only the norm and the bias corrections, double
/// until they are rounded, may differ by a last bit.
void expect_same_elements(const std::vector<FlatRange>& ranges, std::span<const float> gpu,
                          std::span<const float> cpu, bool narrow) {
  for (const auto& range : ranges) {
    EXPECT_LE(relative_distance(gpu, cpu, range.begin, range.end), narrow ? 1e-4 : 1e-6) << range.name;
    for (auto i = static_cast<std::size_t>(range.begin); i < static_cast<std::size_t>(range.end); ++i)
      ASSERT_NEAR(gpu[i], cpu[i], (narrow ? 0x1p-7 : 1e-5) * std::max(std::abs(cpu[i]), 0.01f)) << range.name;
  }
}

class DeviceOptimizerTest : public OnGpu {};

void follows_the_cpu(const Layout& layout, int steps, bool narrow) {
  const auto config = short_run(Precision::f32, narrow ? Storage::bf16 : Storage::f32);
  const auto averages = averages_of(layout, narrow);
  CpuRun cpu(layout, config, averages);
  GpuRun gpu(layout, config, averages);
  const auto before = cpu.values;
  for (std::int64_t s = 0; s < steps; ++s) {
    const auto there = gpu.step(s);
    const auto here = cpu.step(s);
    ASSERT_TRUE(there.finite);
    ASSERT_NEAR(there.norm, here.gradient.norm, 1e-12 * here.gradient.norm);
  }
  const auto now = gpu.values.get();
  EXPECT_GE(worst_matrix(layout, before, cpu.values), 0.05) << "the test's steps are too small to tell";
  EXPECT_LE(worst_matrix(layout, now, cpu.values), 1e-4);
  expect_same_elements(layout.map.tables, now, cpu.values, narrow);
  expect_same_elements(layout.map.scalars, now, cpu.values, false);
  for (auto i = static_cast<std::size_t>(layout.map.scalars.back().end); i < now.size(); ++i)
    ASSERT_EQ(now[i], before[i]) << "frozen";

  std::vector<float> ema(now.size()), mean(now.size()), expected(now.size());
  gpu.optimizer.ema(ema);
  EXPECT_LE(relative_distance(ema, cpu.ema->values(), 0, layout.elements), narrow ? 1e-3 : 1e-4);
  EXPECT_EQ(gpu.optimizer.ema_count(), steps);
  gpu.optimizer.swa_mean(mean);
  cpu.swa->mean(expected, cpu.pool);
  EXPECT_LE(relative_distance(mean, expected, 0, layout.elements), 1e-4);
  EXPECT_EQ(gpu.optimizer.swa_count(), cpu.swa->count());
}

TEST_F(DeviceOptimizerTest, FollowsTheCpuAtOddShapes) { follows_the_cpu(odd_layout(), 20, false); }
TEST_F(DeviceOptimizerTest, FollowsTheCpuWithBf16Storage) { follows_the_cpu(odd_layout(), 20, true); }
TEST_F(DeviceOptimizerTest, FollowsTheCpuAtTheModelsShapes) { follows_the_cpu(model_layout(2), 20, true); }

TEST_F(DeviceOptimizerTest, AveragesOfTheSameValuesAreTheCpusBytes) {
  const Layout layout = odd_layout();
  for (const bool narrow : {false, true}) {
    const auto averages = averages_of(layout, narrow);
    const auto config = short_run(Precision::f32, Storage::bf16);
    GpuRun gpu(layout, config, averages);
    base::ThreadPool pool(2);
    const auto initial = gpu.values.get();
    Ema ema(0.9, initial, averages.ema_storage);
    Swa swa(layout.elements, averages.swa_bf16_ranges);
    for (std::int64_t s = 0; s < 5; ++s) {
      gpu.set_gradients(s);
      gpu.optimizer.prepare({s, 0.0}, s == 0 ? EmaStep::none : s == 1 ? EmaStep::start : EmaStep::update);
      gpu.optimizer.enqueue();
      gpu.optimizer.enqueue_swa_add();
      const auto now = gpu.values.get();
      if (s == 1) ema.start(now);
      if (s > 1) ema.update(now, pool);
      swa.add(now, pool);
    }
    std::vector<float> there(initial.size()), mean(initial.size());
    gpu.optimizer.ema(there);
    EXPECT_EQ(0, std::memcmp(there.data(), ema.values().data(), there.size() * sizeof(float)));
    EXPECT_EQ(gpu.optimizer.ema_count(), 4);
    gpu.optimizer.swa_mean(there);
    swa.mean(mean, pool);
    EXPECT_EQ(0, std::memcmp(there.data(), mean.data(), there.size() * sizeof(float)));
  }
}

TEST_F(DeviceOptimizerTest, Bf16NewtonSchulzIsWithinItsRounding) {
  const Layout layout = model_layout(1);
  CpuRun cpu(layout, short_run(Precision::f32, Storage::f32));
  GpuRun gpu(layout, short_run(Precision::bf16, Storage::f32));
  const auto before = cpu.values;
  for (std::int64_t s = 0; s < 3; ++s) cpu.step(s), gpu.step(s);
  const auto now = gpu.values.get();
  for (const auto& m : layout.map.matrices) {
    const std::int64_t end = m.offset + m.rows * m.columns;
    const double apart = relative_distance(now, cpu.values, m.offset, end),
                 moved = relative_distance(before, cpu.values, m.offset, end);
    EXPECT_LE(apart, 3e-2 * moved) << m.name << " [" << m.rows << ", " << m.columns << "]";
    EXPECT_GT(apart, 1e-4 * moved) << "is it bf16?";
  }
}

TEST_F(DeviceOptimizerTest, MeanSquaresAreTheHostsSums) {
  for (const Layout& layout : {odd_layout(), model_layout(1)}) {
    DeviceAverages averages;
    averages.squares = true;
    GpuRun run(layout, short_run(Precision::f32, Storage::f32), averages);
    EXPECT_EQ(run.optimizer.state().back().name, "sensitivity.sums");
    for (const double sum : run.optimizer.square_sums()) EXPECT_EQ(sum, 0);
    std::vector<double> expected(layout.map.matrices.size() + 1, 0.0);
    for (std::int64_t s = 0; s < 4; ++s) {
      run.step(s);
      if (s == 1) continue;  // the caller's choice
      run.optimizer.enqueue_squares();
      for (std::size_t i = 0; i < layout.map.matrices.size(); ++i) {
        const auto& m = layout.map.matrices[i];
        const auto n = static_cast<std::size_t>(m.rows * m.columns);
        double sum = 0;
        for (const float g : std::span(run.host_gradients).subspan(static_cast<std::size_t>(m.offset), n))
          sum += static_cast<double>(g) * static_cast<double>(g);
        expected[i] += sum / static_cast<double>(n);
      }
      expected.back() += 1;
    }
    const auto sums = run.optimizer.square_sums();
    ASSERT_EQ(sums.size(), expected.size());
    for (std::size_t i = 0; i < sums.size(); ++i) EXPECT_NEAR(sums[i], expected[i], 1e-12 * expected[i]) << i;
    // A bad step does not count, nor does any until the flag is cleared.
    run.host_gradients[0] = std::numeric_limits<float>::quiet_NaN();
    run.gradients.set(run.host_gradients);
    run.optimizer.enqueue();
    run.optimizer.enqueue_squares();
    run.step(0);
    run.optimizer.enqueue_squares();
    EXPECT_EQ(run.optimizer.square_sums(), sums);
    // Taken back, and replayed.
    const auto saved = run.optimizer.save();
    run.optimizer.enqueue_clear_flag();
    run.optimizer.restore("sensitivity.sums", std::vector<std::byte>(sums.size() * sizeof(double)));
    ops::cuda::Recording recorded(run.state, [&] { run.optimizer.enqueue_squares(); });
    EXPECT_EQ(run.optimizer.square_sums().back(), 0);
    run.set_gradients(0);
    recorded.replay();
    const auto once = run.optimizer.square_sums();
    EXPECT_EQ(once.back(), 1);
    EXPECT_GT(once.front(), 0);
    run.optimizer.restore("sensitivity.sums", saved.back().bytes);
    EXPECT_EQ(run.optimizer.square_sums(), sums);
  }
}

void expect_same_state(DeviceOptimizer& a, DeviceOptimizer& b) {
  const auto first = a.save(), second = b.save();
  ASSERT_EQ(first.size(), second.size());
  for (std::size_t i = 0; i < first.size(); ++i) {
    EXPECT_EQ(first[i].name, second[i].name);
    EXPECT_EQ(first[i].bytes, second[i].bytes) << first[i].name;
  }
}

TEST_F(DeviceOptimizerTest, RepeatsToTheByte) {
  for (const Layout& layout : {odd_layout(), model_layout(2)}) {
    const auto config = short_run(Precision::bf16, Storage::bf16);
    GpuRun one(layout, config, averages_of(layout, false)), two(layout, config, averages_of(layout, false));
    for (std::int64_t s = 0; s < 8; ++s) {
      const auto a = one.step(s), b = two.step(s);
      ASSERT_EQ(a.norm, b.norm);
    }
    EXPECT_EQ(one.values.get(), two.values.get());
    expect_same_state(one.optimizer, two.optimizer);
  }
}

TEST_F(DeviceOptimizerTest, BadGradientsChangeNothingUntilTheFlagIsCleared) {
  const Layout layout = odd_layout();
  const auto config = short_run(Precision::bf16, Storage::bf16);
  GpuRun run(layout, config, averages_of(layout, false)), other(layout, config, averages_of(layout, false));
  run.step(0), other.step(0);
  for (const auto& [where, bad] :
       {std::pair{layout.map.matrices[2].offset + 5, std::numeric_limits<float>::quiet_NaN()},
        {layout.map.tables[0].begin + 20'000, std::numeric_limits<float>::infinity()},
        {layout.map.scalars.back().end - 1, std::numeric_limits<float>::quiet_NaN()}}) {
    fill_gradients(run.base, 1, run.host_gradients);
    run.host_gradients[static_cast<std::size_t>(where)] = bad;
    run.gradients.set(run.host_gradients);
    run.optimizer.prepare({1, 0.0});
    run.optimizer.enqueue();
    run.optimizer.enqueue_swa_add();
    run.optimizer.enqueue_report(1);
    const auto report = run.optimizer.report(1);
    EXPECT_FALSE(report.finite);
    EXPECT_FALSE(std::isfinite(report.norm));
    const auto next = run.step(3);  // good gradients, but the flag holds
    EXPECT_FALSE(next.finite);
    EXPECT_TRUE(std::isfinite(next.norm));
    EXPECT_EQ(run.values.get(), other.values.get());
    expect_same_state(run.optimizer, other.optimizer);
    run.optimizer.enqueue_clear_flag();
  }
  EXPECT_TRUE(run.step(1).finite);
  other.step(1);
  EXPECT_EQ(run.values.get(), other.values.get());
  expect_same_state(run.optimizer, other.optimizer);
  // The frozen rest may hold anything.
  fill_gradients(run.base, 2, run.host_gradients);
  run.host_gradients.back() = std::numeric_limits<float>::quiet_NaN();
  run.gradients.set(run.host_gradients);
  run.optimizer.enqueue();
  run.optimizer.enqueue_report(0);
  EXPECT_TRUE(run.optimizer.report(0).finite);
}

TEST_F(DeviceOptimizerTest, RecordedStepsEqualDirectOnes) {
  const Layout layout = odd_layout();
  const auto config = short_run(Precision::bf16, Storage::bf16);
  GpuRun direct(layout, config, averages_of(layout, true)),
      replayed(layout, config, averages_of(layout, true));
  // The first thing this optimiser does: nothing is left to load or to choose.
  ops::cuda::Recording step(replayed.state, [&] { replayed.optimizer.enqueue(); });
  ops::cuda::Recording snapshot(replayed.state, [&] {
    replayed.optimizer.enqueue_swa_add();
    replayed.optimizer.enqueue_zero_gradients();
  });
  for (std::int64_t s = 0; s < 6; ++s) {
    direct.step(s);
    replayed.set_gradients(s);
    replayed.optimizer.prepare({s, 0.0});
    step.replay();
    if (s % 3 == 0) snapshot.replay();
  }
  EXPECT_EQ(direct.values.get(), replayed.values.get());
  expect_same_state(direct.optimizer, replayed.optimizer);
  snapshot.replay();
  for (const float g : replayed.gradients.get()) ASSERT_EQ(g, 0.0f);
}

TEST_F(DeviceOptimizerTest, StepsMayBePreparedAhead) {
  const Layout layout = model_layout(1);
  const auto config = short_run(Precision::bf16, Storage::f32);
  GpuRun waiting(layout, config), ahead(layout, config);
  waiting.set_gradients(0), ahead.set_gradients(0);
  std::vector<double> norms;
  for (std::int64_t s = 0; s < 20; ++s) {
    waiting.optimizer.prepare({s, 0.0});
    waiting.optimizer.enqueue();
    waiting.state.synchronize();
    ahead.optimizer.prepare({s, 0.0});
    ahead.optimizer.enqueue();
    ahead.optimizer.enqueue_report(static_cast<int>(s % DeviceOptimizer::report_slots));
    if (s > 0)
      norms.push_back(ahead.optimizer.report(static_cast<int>((s - 1) % DeviceOptimizer::report_slots)).norm);
  }
  EXPECT_EQ(waiting.values.get(), ahead.values.get());
  for (const double norm : norms) EXPECT_EQ(norm, norms.front());
  EXPECT_GT(norms.front(), 0.0);
}

TEST_F(DeviceOptimizerTest, StateMovesBetweenCpuAndGpu) {
  const Layout layout = odd_layout();
  const auto config = short_run(Precision::f32, Storage::bf16);
  const auto averages = averages_of(layout, true);
  CpuRun cpu(layout, config, averages);
  for (std::int64_t s = 0; s < 4; ++s) cpu.step(s);
  const auto cpu_state = [](CpuRun& run) {
    auto pieces = run.optimizer.state();
    for (auto& piece : run.ema->state("average.")) pieces.push_back(piece);
    for (auto& piece : run.swa->state("average.")) pieces.push_back(piece);
    return pieces;
  };
  GpuRun gpu(layout, config, averages);
  const auto names = gpu.optimizer.state();
  const auto from = cpu_state(cpu);
  ASSERT_EQ(from.size(), names.size());
  for (std::size_t i = 0; i < from.size(); ++i) {
    EXPECT_EQ(from[i].name, names[i].name);
    ASSERT_EQ(from[i].bytes.size(), names[i].bytes) << from[i].name;
    gpu.optimizer.restore(from[i].name, from[i].bytes);
  }
  gpu.values.set(cpu.values);
  const auto saved = gpu.optimizer.save();
  for (std::size_t i = 0; i < from.size(); ++i)
    EXPECT_TRUE(std::ranges::equal(saved[i].bytes, from[i].bytes));

  // Onwards on the GPU, and from there back to another CPU run.
  gpu.step(4), cpu.step(4);
  CpuRun back(layout, config, averages);
  std::ranges::copy(gpu.values.get(), back.values.begin());  // in place: the optimiser holds views
  const auto moved = gpu.optimizer.save();
  auto to = cpu_state(back);
  for (std::size_t i = 0; i < to.size(); ++i) std::ranges::copy(moved[i].bytes, to[i].bytes.begin());
  for (std::int64_t s = 5; s < 8; ++s) gpu.step(s), cpu.step(s), back.step(s);
  const auto now = gpu.values.get();
  EXPECT_LE(worst_matrix(layout, now, cpu.values), 1e-4);
  EXPECT_LE(worst_matrix(layout, back.values, cpu.values), 1e-4);
  expect_same_elements(layout.map.tables, now, cpu.values, true);
  expect_same_elements(layout.map.tables, back.values, cpu.values, true);

  EXPECT_THROW(gpu.optimizer.restore("muon.nobody.momentum", from[0].bytes), base::Error);
  EXPECT_THROW(gpu.optimizer.restore(from[0].name, from[1].bytes), base::Error);
}

TEST_F(DeviceOptimizerTest, ResumedRunEqualsUninterrupted) {
  const Layout layout = odd_layout();
  const auto config = short_run(Precision::bf16, Storage::bf16);
  const auto averages = averages_of(layout, false);
  GpuRun whole(layout, config, averages), first(layout, config, averages), second(layout, config, averages);
  for (std::int64_t s = 0; s < 8; ++s) whole.step(s);
  for (std::int64_t s = 0; s < 4; ++s) first.step(s);
  second.values.set(first.values.get());
  for (const auto& piece : first.optimizer.save()) second.optimizer.restore(piece.name, piece.bytes);
  for (std::int64_t s = 4; s < 8; ++s) second.step(s);
  EXPECT_EQ(whole.values.get(), second.values.get());
  expect_same_state(whole.optimizer, second.optimizer);
}

TEST_F(DeviceOptimizerTest, ZeroGradientsOnlyDecay) {
  const Layout layout = model_layout(1);
  auto config = short_run(Precision::bf16, Storage::f32);
  config.muon_weight_decay = 0.5;
  GpuRun run(layout, config);
  const auto before = run.values.get();
  run.optimizer.enqueue_zero_gradients();
  run.optimizer.prepare({0, 0.0});
  run.optimizer.enqueue();
  const auto now = run.values.get();
  const auto decay = static_cast<float>(1.0 - 0.025 * 0.5);
  for (std::int64_t i = 0; i < layout.map.tables.front().begin; ++i)
    ASSERT_EQ(now[static_cast<std::size_t>(i)], before[static_cast<std::size_t>(i)] * decay);
}

TEST_F(DeviceOptimizerTest, RoundsToStorage) {
  const Layout layout = odd_layout();
  GpuRun run(layout, short_run(Precision::f32, Storage::bf16));
  auto expected = normals("other", static_cast<std::size_t>(layout.elements));
  run.values.set(expected);
  run.optimizer.round_to_storage();
  for (const auto& t : layout.map.tables)
    for (auto i = static_cast<std::size_t>(t.begin); i < static_cast<std::size_t>(t.end); ++i)
      expected[i] = tensor::round_to_bf16(expected[i]);
  EXPECT_EQ(run.values.get(), expected);
}

TEST_F(DeviceOptimizerTest, RejectsOverlapAndOtherSizes) {
  Layout layout = odd_layout();
  layout.map.tables[0].begin = layout.map.matrices.back().offset;
  EXPECT_THROW(GpuRun(layout, short_run(Precision::f32, Storage::f32)), base::Error);
  layout = odd_layout();
  ops::cuda::State state({tensor::DeviceKind::cuda, 0});
  const std::vector<float> host(static_cast<std::size_t>(layout.elements));
  DeviceFloats values(state, host), gradients(state, std::span(host).first(100));
  EXPECT_THROW(DeviceOptimizer({}, layout.map, values.view(), gradients.view(), {}, state), base::Error);
}

}  // namespace
}  // namespace fairway::optim
