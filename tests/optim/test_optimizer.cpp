// The whole update: clipping over all groups, threads, NaN, resuming, memory.
#include <gtest/gtest.h>

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <new>
#include <set>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/tensor/dtype.h"
#include "helpers.h"

namespace {
std::atomic<long> allocations{0};
}

// Counts what the tests below allocate. Plain malloc, as the default operators.
[[gnu::noinline]] void* operator new(std::size_t size) {
  ++allocations;
  if (void* memory = std::malloc(size ? size : 1)) return memory;
  throw std::bad_alloc();
}
[[gnu::noinline]] void* operator new(std::size_t size, const std::nothrow_t&) noexcept {
  ++allocations;
  return std::malloc(size ? size : 1);
}
[[gnu::noinline]] void operator delete(void* memory) noexcept { std::free(memory); }
[[gnu::noinline]] void operator delete(void* memory, std::size_t) noexcept { std::free(memory); }

namespace fairway::optim {
namespace {

constexpr std::int64_t elements = 96 * 64 + 64 * 160 + 64 * 64 + 20'000 + 301 + 7;

/// Three matrices, an embedding, two ranges of scalars, and a frozen rest of 7.
TrainedParameters parameters() {
  return {
      .matrices = {{"a", {0, 6144}, 96, 64}, {"b", {6144, 16384}, 64, 160}, {"c", {16384, 20480}, 64, 64}},
      .embeddings = {{"embedding", {20480, 40480}}},
      .scalars = {{"scales", {40480, 40680}}, {"gains", {40680, 40781}}}};
}

TrainingConfig small_config() {
  TrainingConfig config;
  config.muon_momentum.steps = 12;
  config.embeddings = tensor::DType::bf16;
  return config;
}

struct Training {
  explicit Training(int threads, TrainingConfig training = small_config(), const Averages& averages = {},
                    int ranks = 1)
      : pool(threads), config(training), values(normals("values", elements, 0.1)), gradients(elements) {
    const auto groups = optimizer_config(config, parameters(), averages, ranks);
    round_to_storage(groups, values);
    optimizer = optimizer_of(groups, values, gradients, pool);
  }
  void set_gradients(std::int64_t s) {
    std::ranges::copy(normals("g" + std::to_string(s), elements, 0.01), gradients.begin());
  }
  StepValues at(std::int64_t s) const { return step_values(config, lr_scale_by_steps(s, 20, 8), s); }
  GradientNorm step(std::int64_t s) {
    set_gradients(s);
    return optimizer->step(at(s));
  }
  base::ThreadPool pool;
  TrainingConfig config;
  std::vector<float> values, gradients;
  std::unique_ptr<Optimizer> optimizer;
};

TEST(Optimizer, ThreadsDoNotChangeABit) {
  Training one(1), two(2), five(5);
  for (std::int64_t s = 0; s < 6; ++s) {
    const auto a = one.step(s), b = two.step(s), c = five.step(s);
    ASSERT_EQ(a.norm, b.norm);
    ASSERT_EQ(a.norm, c.norm);
    ASSERT_EQ(0, std::memcmp(one.values.data(), two.values.data(), elements * sizeof(float)));
    ASSERT_EQ(0, std::memcmp(one.values.data(), five.values.data(), elements * sizeof(float)));
  }
}

TEST(Optimizer, ClipsByTheNormOfAllGroups) {
  TrainingConfig plain = small_config(), clipped = small_config();
  plain.grad_clip = 0;
  Training run(1, plain), limited(1, clipped);
  const auto report = run.step(13);
  double sum = 0;
  for (std::size_t i = 0; i < elements - 7; ++i) sum += std::pow(static_cast<double>(run.gradients[i]), 2);
  EXPECT_NEAR(report.norm, std::sqrt(sum), 1e-9) << "the frozen rest does not count";
  EXPECT_EQ(limited.step(13).norm, report.norm) << "before it is clipped";
  const auto clip = static_cast<float>(0.3 / (std::sqrt(sum) + 1e-6));
  EXPECT_LT(clip, 1.0f);
  const auto whole = state_of(*run.optimizer), part = state_of(*limited.optimizer);
  for (const std::string name : {"muon.b.momentum", "adamw.gains.m"}) {
    const auto a = floats_of(whole.at(name)), b = floats_of(part.at(name));
    for (std::size_t i = 0; i < a.size(); ++i)
      ASSERT_NEAR(b[i], a[i] * clip, 1e-6f * std::abs(a[i])) << name << " " << i;
  }
}

TEST(Optimizer, ValuesOfAStepFollowTheSchedules) {
  const auto values = step_values(small_config(), 0.5, 13, EmaStep::start);
  EXPECT_DOUBLE_EQ(values.lr[0], 0.0125);
  EXPECT_DOUBLE_EQ(values.lr[1], 0.0175);
  EXPECT_DOUBLE_EQ(values.lr[2], 0.0125);
  EXPECT_DOUBLE_EQ(values.momentum, 0.99);
  EXPECT_EQ(values.ema, EmaStep::start);
}

TEST(Optimizer, WeightDecayOfMatricesTapers) {
  TrainingConfig config = small_config();
  config.muon_weight_decay = 0.5;
  config.muon_decay_taper = {.start = 0.6, .end = 0.2};
  Training run(2, config);
  for (const auto& [part, scale] : {std::pair{0.5, 1.0}, {0.8, 0.6}, {1.0, 0.2}}) {
    const auto before = run.values;
    std::ranges::fill(run.gradients, 0.0f);  // then matrices only decay, and the rest decays as ever
    run.optimizer->step(step_values(config, 1, 0, EmaStep::none, part));
    const auto decay = static_cast<float>(1.0 - 0.025 * 0.5 * scale);
    for (std::size_t i = 0; i < 20'480; ++i) ASSERT_FLOAT_EQ(run.values[i], before[i] * decay) << part;
    const auto scalars = static_cast<float>(1.0 - 0.025 * 0.04);
    for (std::size_t i = 40'480; i < 40'780; ++i) ASSERT_FLOAT_EQ(run.values[i], before[i] * scalars);
  }
  EXPECT_FALSE(optimizer_config(small_config(), parameters()).groups[0].rule.tapered_decay);
}

/// Ranks that add `batches` micro-batches each.
GradientNorm step_of_ranks(Training& run, int ranks, int batches, std::int64_t s) {
  run.optimizer->enqueue_zero_gradients();
  for (int r = 0; r < ranks; ++r) {
    for (int b = 0; b < batches; ++b) {
      const auto more = normals(fmt::format("r{}.{}.{}", s, r, b), elements, r % 2 ? 1e-5 : 0.01);
      for (std::size_t i = 0; i < elements; ++i) run.gradients[i] += more[i];
    }
    run.optimizer->enqueue_add_rank();
    EXPECT_EQ(run.gradients, std::vector<float>(elements)) << "the next rank begins with none";
  }
  return run.optimizer->step(run.at(s));
}

TEST(Optimizer, RanksAreClippedBeforeTheyAreAveraged) {
  constexpr int ranks = 3, batches = 2;
  TrainingConfig config = small_config(), none = small_config();
  config.clip = Clip::rank;
  none.grad_clip = 0;
  Training run(2, config, {.squares = true}, ranks), direct(1, none), threads(5, config, {}, ranks);
  EXPECT_EQ(run.optimizer->bytes() - direct.optimizer->bytes(), elements * sizeof(float) + 4 * sizeof(double))
      << "the sum, and the squares of three matrices";
  for (std::int64_t s = 0; s < 4; ++s) {
    std::vector<float> sum(elements);
    double norms = 0;
    for (int r = 0; r < ranks; ++r) {
      std::vector<float> part(elements);
      for (int b = 0; b < batches; ++b) {
        const auto more = normals(fmt::format("r{}.{}.{}", s, r, b), elements, r % 2 ? 1e-5 : 0.01);
        for (std::size_t i = 0; i < elements; ++i) part[i] += more[i];
      }
      double squares = 0;
      for (std::size_t i = 0; i < elements - 7; ++i) squares += static_cast<double>(part[i]) * part[i];
      const double norm = ranks * std::sqrt(squares);  // a part is the rank's gradient over the ranks
      norms += norm;
      EXPECT_EQ(norm > 0.3, r % 2 == 0) << "the test's gradients do not tell";
      const auto clip = static_cast<float>(std::min(1.0, 0.3 / (norm + 1e-6)));
      for (std::size_t i = 0; i < elements; ++i) sum[i] += clip * part[i];
    }
    const auto report = step_of_ranks(run, ranks, batches, s);
    run.optimizer->enqueue_squares();
    step_of_ranks(threads, ranks, batches, s);
    std::ranges::copy(sum, direct.gradients.begin());
    direct.optimizer->step(direct.at(s));
    EXPECT_TRUE(report.finite);
    EXPECT_NEAR(report.norm, norms / ranks, 1e-9 * norms);
    for (std::size_t i = 0; i < elements; ++i)
      ASSERT_NEAR(run.values[i], direct.values[i], 1e-5 + 0.008 * std::abs(direct.values[i])) << i;
    EXPECT_EQ(run.values, threads.values) << "threads never matter";
  }
  const auto here = state_of(*run.optimizer), there = state_of(*direct.optimizer);
  for (const std::string name : {"muon.b.momentum", "adamw.gains.m"}) {
    const auto a = floats_of(here.at(name)), b = floats_of(there.at(name));
    for (std::size_t i = 0; i < a.size(); ++i)
      ASSERT_NEAR(a[i], b[i], 1e-9 + 1e-5 * std::abs(b[i])) << name << " " << i;
  }
  EXPECT_GT(run.optimizer->mean_squares().at("a"), 0);
}

TEST(Optimizer, OneRankIsTheWholeStep) {
  TrainingConfig config = small_config();
  config.clip = Clip::rank;
  Training whole(2), rank(2, config, {}, 1);
  for (std::int64_t s = 0; s < 4; ++s) {
    whole.optimizer->enqueue_zero_gradients();
    for (int b = 0; b < 2; ++b) {
      const auto more = normals(fmt::format("r{}.0.{}", s, b), elements, 0.01);
      for (std::size_t i = 0; i < elements; ++i) whole.gradients[i] += more[i];
    }
    const auto expected = whole.optimizer->step(whole.at(s)), report = step_of_ranks(rank, 1, 2, s);
    EXPECT_EQ(report.norm, expected.norm);
    EXPECT_EQ(rank.values, whole.values);
  }
  EXPECT_THROW(whole.optimizer->enqueue_add_rank(), base::Error) << "nobody asked for ranks";
}

TEST(Optimizer, ARankThatIsNotFiniteIsABadStep) {
  TrainingConfig config = small_config();
  config.clip = Clip::rank;
  Training run(1, config, {}, 2);
  step_of_ranks(run, 2, 1, 0);
  const auto values = run.values;
  run.optimizer->enqueue_zero_gradients();
  run.gradients[5] = std::numeric_limits<float>::infinity();
  run.optimizer->enqueue_add_rank();
  run.optimizer->enqueue_add_rank();
  EXPECT_FALSE(run.optimizer->step(run.at(1)).finite);
  EXPECT_EQ(run.values, values);
  run.optimizer->enqueue_clear_flag();
  EXPECT_TRUE(step_of_ranks(run, 2, 1, 1).finite) << "the sum begins anew";
  EXPECT_NE(run.values, values);
}

TEST(Optimizer, GroupsHaveTheirOwnRatesAndTheRestIsFrozen) {
  TrainingConfig config = small_config();
  config.adam_weight_decay = config.muon_weight_decay = 0.0;
  config.embeddings = tensor::DType::f32;
  Training run(2, config);
  const auto before = run.values;
  run.step(0);
  // The first AdamW step moves every entry by its rate.
  EXPECT_NEAR(std::abs(run.values[21'000] - before[21'000]), 0.035, 1e-4);
  EXPECT_NEAR(std::abs(run.values[40'500] - before[40'500]), 0.025, 1e-4);
  EXPECT_NEAR(std::abs(run.values[40'780] - before[40'780]), 0.025, 1e-4);
  double moved = 0;
  for (std::size_t i = 16'384; i < 20'480; ++i)
    moved += std::pow(static_cast<double>(run.values[i]) - before[i], 2);
  // An approximately orthogonal 64 x 64 update: norm 0.025 * 8, singular values between 0.7 and 1.2.
  EXPECT_NEAR(std::sqrt(moved), 0.2, 0.05);
  for (std::size_t i = elements - 7; i < elements; ++i) EXPECT_EQ(run.values[i], before[i]);
}

TEST(Optimizer, BadGradientsChangeNothingUntilTheFlagIsCleared) {
  const Averages all{.ema_decay = 0.9, .swa = true, .squares = true};
  Training run(2, small_config(), all);
  run.step(0);
  const auto values = run.values;
  const auto state = state_of(*run.optimizer);
  const auto step = [&] {
    auto update = run.at(1);
    update.ema = EmaStep::update;
    const auto report = run.optimizer->step(update);
    run.optimizer->enqueue_swa_add();
    run.optimizer->enqueue_squares();
    return report;
  };
  for (const std::size_t where : {std::size_t{5}, std::size_t{30'000}, std::size_t{40'700}}) {
    const float kept = run.gradients[where];
    run.gradients[where] = std::numeric_limits<float>::quiet_NaN();
    const auto bad = step();
    EXPECT_FALSE(bad.finite);
    EXPECT_FALSE(std::isfinite(bad.norm));
    run.gradients[where] = kept;
    const auto next = step();
    EXPECT_FALSE(next.finite) << "the flag holds";
    EXPECT_TRUE(std::isfinite(next.norm));
    EXPECT_EQ(run.values, values);
    EXPECT_EQ(state_of(*run.optimizer), state);
    run.optimizer->enqueue_clear_flag();
  }
  EXPECT_TRUE(step().finite);
  EXPECT_NE(run.values, values);
}

TEST(Optimizer, ResumedRunEqualsUninterrupted) {
  const Averages all{.ema_decay = 0.9, .swa = true, .squares = true};
  Training whole(2, small_config(), all), first(1, small_config(), all), second(2, small_config(), all);
  const auto train = [](Training& run, std::int64_t from, std::int64_t to) {
    for (std::int64_t s = from; s < to; ++s) {
      run.set_gradients(s);
      auto values = run.at(s);
      values.ema = EmaStep::update;
      run.optimizer->step(values);
      run.optimizer->enqueue_swa_add();
      run.optimizer->enqueue_squares();
    }
  };
  train(whole, 0, 8);
  train(first, 0, 4);
  second.values = first.values;  // same size: the views stay
  const auto state = state_of(*first.optimizer);
  for (const char* name : {"muon.b.momentum", "adamw.embedding.v", "adamw.gains.step", "average.ema",
                           "average.ema.count", "average.swa.sum", "average.swa.count", "sensitivity.sums"})
    EXPECT_TRUE(state.contains(name)) << name;
  EXPECT_EQ(state.size(), first.optimizer->save().size()) << "names are unique";
  set_state(*second.optimizer, state);
  train(second, 4, 8);
  EXPECT_EQ(whole.values, second.values);
  EXPECT_EQ(state_of(*whole.optimizer), state_of(*second.optimizer));
  EXPECT_EQ(second.optimizer->average_count(Average::ema), 8);
  EXPECT_EQ(second.optimizer->average_count(Average::swa), 8);
  const auto other_size = [&](std::string_view, std::size_t bytes) {
    return std::span<const std::byte>(state.at("average.ema")).first(bytes / 2);
  };
  EXPECT_THROW(second.optimizer->restore(other_size), base::Error);
}

TEST(Optimizer, AveragesAreReadFromTheSameObject) {
  Training run(2, small_config(), {.ema_decay = 0.75, .swa = true, .squares = true});
  std::vector<float> ema = run.values, out(elements);
  EXPECT_TRUE(run.optimizer->mean_squares().empty());
  EXPECT_THROW(run.optimizer->read_average(Average::swa, out), base::Error) << "no snapshot yet";
  for (const auto step : {EmaStep::start, EmaStep::none, EmaStep::update}) {
    auto values = run.at(0);
    values.ema = step;
    run.set_gradients(0);
    run.optimizer->step(values);
    for (std::size_t i = 0; i < ema.size(); ++i)
      if (step != EmaStep::none)
        ema[i] = step == EmaStep::start ? run.values[i] : 0.75f * ema[i] + 0.25f * run.values[i];
  }
  run.optimizer->enqueue_swa_add();
  run.optimizer->enqueue_squares();
  EXPECT_EQ(run.optimizer->average_count(Average::ema), 2);
  EXPECT_EQ(run.optimizer->average_count(Average::swa), 1);
  run.optimizer->read_average(Average::ema, out);
  EXPECT_EQ(out, ema);
  run.optimizer->read_average(Average::swa, out);
  EXPECT_EQ(out, run.values);
  double sum = 0;
  for (std::size_t i = 0; i < 6144; ++i) sum += std::pow(static_cast<double>(run.gradients[i]), 2);
  const auto squares = run.optimizer->mean_squares();
  EXPECT_EQ(squares.size(), 3u);
  EXPECT_NEAR(squares.at("a"), sum / 6144, 1e-12);

  Training bare(1);
  EXPECT_THROW(bare.optimizer->enqueue_swa_add(), base::Error);
  EXPECT_THROW(bare.optimizer->enqueue_squares(), base::Error);
  EXPECT_THROW(bare.optimizer->average_count(Average::ema), base::Error);
}

TEST(Optimizer, ReportsComeInTheirOrder) {
  Training run(1);
  std::vector<double> norms;
  EXPECT_THROW(run.optimizer->report(), base::Error);
  for (std::int64_t s = 0; s < 7; ++s) {
    run.set_gradients(s);
    run.optimizer->prepare(run.at(s));
    run.optimizer->enqueue();
    run.optimizer->enqueue_report();
    if (s == 3) {
      EXPECT_THROW(run.optimizer->enqueue_report(), base::Error) << "four are outstanding";
    }
    if (s >= 3) norms.push_back(run.optimizer->report().norm);
  }
  while (norms.size() < 7) norms.push_back(run.optimizer->report().norm);
  Training again(1);
  for (std::int64_t s = 0; s < 7; ++s) EXPECT_EQ(again.step(s).norm, norms[static_cast<std::size_t>(s)]);
  run.optimizer->enqueue_zero_gradients();
  EXPECT_EQ(run.gradients, std::vector<float>(elements));
}

TEST(Optimizer, ResetIsANewOptimiser) {
  Training run(1), fresh(1);
  run.step(0), run.step(1);
  run.optimizer->enqueue_reset();
  for (const auto& [name, bytes] : state_of(*run.optimizer))
    EXPECT_EQ(bytes, std::vector<std::byte>(bytes.size())) << name;
  run.values = fresh.values;
  run.step(0), fresh.step(0);
  EXPECT_EQ(run.values, fresh.values);
}

TEST(Optimizer, EmbeddingsStayInTheirStorageType) {
  Training run(2);
  run.step(0);
  for (std::size_t i = 20'480; i < 40'480; ++i)
    ASSERT_EQ(run.values[i], tensor::round_to_bf16(run.values[i]));
  std::size_t rounded = 0;
  for (std::size_t i = 0; i < 20'480; ++i) rounded += run.values[i] == tensor::round_to_bf16(run.values[i]);
  EXPECT_LT(rounded, 1000u) << "only the embedding is rounded";
}

TEST(Optimizer, StepsDoNotAllocate) {
  Training run(2, small_config(), {.ema_decay = 0.9, .swa = true, .squares = true});
  run.step(0);
  auto values = run.at(1);
  values.ema = EmaStep::update;
  const long before = allocations;
  run.optimizer->enqueue_zero_gradients();
  run.optimizer->step(values);
  run.optimizer->enqueue_swa_add();
  run.optimizer->enqueue_squares();
  EXPECT_EQ(allocations - before, 0);
}

TEST(Optimizer, RejectsGroupsThatDoNotFit) {
  base::ThreadPool pool(1);
  std::vector<float> values(100), gradients(100);
  const auto build = [&](const TrainedParameters& p) {
    optimizer_of(optimizer_config({}, p), values, gradients, pool);
  };
  const ParamRange t{"t", {50, 80}}, s{"s", {80, 100}};
  EXPECT_NO_THROW(build({{{"w", {0, 50}, 5, 10}}, {t}, {s}}));
  EXPECT_THROW(build({{{"w", {0, 50}, 5, 10}}, {{"t", {49, 80}}}, {}}), base::Error) << "overlap";
  EXPECT_THROW(build({{{"w", {60, 110}, 5, 10}}, {}, {}}), base::Error) << "overhang";
  EXPECT_THROW(build({{}, {{"t", {20, 10}}}, {}}), base::Error);
  EXPECT_THROW(build({{{"w", {0, 0}, 0, 10}}, {}, {}}), base::Error) << "no matrix";
  EXPECT_THROW(build({{{"w", {0, 50}, 5, 11}}, {}, {}}), base::Error) << "not its size";
  EXPECT_THROW(build({{t}, {}, {}}), base::Error) << "Muon of a flat array";
  auto config = one_group({}, {t});
  config.groups[0].rate = 4;
  EXPECT_THROW(optimizer_of(config, values, gradients, pool), base::Error);
  config = one_group({}, {t}, tensor::DType::f16);
  EXPECT_THROW(optimizer_of(config, values, gradients, pool), base::Error);
}

}  // namespace
}  // namespace fairway::optim
