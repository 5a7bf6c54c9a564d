// SGD and Adam over chosen ranges, against the formulas on the host.
#include "both.h"
#include "fairway/optim/device_adapter.h"

namespace fairway::optim {
namespace {

class DeviceAdapterTest : public OnGpu {};

/// Ranges apart from each other, one at an odd start, two in bf16; the rest is frozen.
std::vector<OptimizedRange> some_ranges() {
  return {{"a", 64, 9000, 1.0, Storage::f32},
          {"b", 9001, 29'011, 3.0, Storage::f32},
          {"c", 29'024, 30'000, 0.5, Storage::bf16},
          {"d", 30'000, 40'003, 1.0, Storage::bf16}};
}
constexpr std::size_t elements = 40'100;

double lr_of(std::int64_t s) { return 0.01 * (1.0 - 0.1 * static_cast<double>(s)); }

/// The same updates on the CPU and on a GPU.
struct Both {
  explicit Both(const RangeOptimizerConfig& config)
      : state({tensor::DeviceKind::cuda, 0}),
        pool(2),
        host(start()),
        base(normals("gradients", elements, 0.01)),
        host_gradients(elements),
        values(state, host),
        gradients(state, host_gradients),
        optimizer(config, some_ranges(), host, host_gradients, pool),
        adapter(config, some_ranges(), values.view(), gradients.view(), state) {}

  static std::vector<float> start() {
    auto v = normals("values", elements, 0.1);
    for (const auto& r : some_ranges())
      for (auto i = static_cast<std::size_t>(r.begin); i < static_cast<std::size_t>(r.end); ++i)
        if (r.storage == Storage::bf16) v[i] = tensor::round_to_bf16(v[i]);
    return v;
  }
  GradientNorm step(std::int64_t s) {
    fill_gradients(base, s, host_gradients);
    gradients.set(host_gradients);
    adapter.prepare(lr_of(s));
    adapter.enqueue();
    adapter.enqueue_report(0);
    const auto there = adapter.report(0), here = optimizer.step(lr_of(s));
    EXPECT_EQ(there.finite, here.finite);
    if (here.finite) {
      EXPECT_NEAR(there.norm, here.norm, 1e-12 * here.norm);
    }
    return there;
  }
  /// The norm's last bits may differ, hardly ever the clip factor's: values are the same up to that.
  void expect_same() {
    const auto now = values.get();
    for (const auto& r : some_ranges())
      EXPECT_LE(relative_distance(now, host, r.begin, r.end), r.storage == Storage::bf16 ? 1e-4 : 1e-6)
          << r.name;
    const auto before = start();
    for (const std::size_t i : {0, 63, 9000, 29'011, 29'023, 40'003})
      EXPECT_EQ(now[i], before[i]) << "frozen";
    EXPECT_GT(relative_distance(before, now, 64, 9000), 1e-3) << "the test's steps are too small to tell";
  }
  ops::cuda::State state;
  base::ThreadPool pool;
  std::vector<float> host, base, host_gradients;
  DeviceFloats values, gradients;
  RangeOptimizer optimizer;
  DeviceAdapter adapter;
};

TEST_F(DeviceAdapterTest, FollowsTheCpu) {
  for (const auto rule : {RangeRule::adam, RangeRule::adamw, RangeRule::sgd})
    for (const double decay : {0.0, 0.1}) {
      Both both({.rule = rule, .weight_decay = decay, .grad_clip = 1.0});
      for (std::int64_t s = 0; s < 6; ++s) both.step(s);
      both.expect_same();
    }
}

TEST_F(DeviceAdapterTest, StateHasTheCpusNames) {
  for (const auto rule : {RangeRule::adamw, RangeRule::sgd}) {
    Both both({.rule = rule});
    for (std::int64_t s = 0; s < 3; ++s) both.step(s);
    const auto there = both.adapter.save();
    const auto here = both.optimizer.state();
    ASSERT_EQ(there.size(), here.size());
    for (std::size_t i = 0; i < here.size(); ++i) {
      EXPECT_EQ(there[i].name, here[i].name);
      EXPECT_EQ(there[i].bytes.size(), here[i].bytes.size()) << here[i].name;
      both.adapter.restore(here[i].name, here[i].bytes);
    }
    both.values.set(both.host);
    for (std::int64_t s = 3; s < 5; ++s) both.step(s);
    both.expect_same();
  }
}

TEST_F(DeviceAdapterTest, ResetIsANewOptimiser) {
  for (const auto rule : {RangeRule::adamw, RangeRule::sgd}) {
    Both both({.rule = rule, .grad_clip = 1.0});
    for (std::int64_t s = 0; s < 3; ++s) both.step(s);
    both.adapter.enqueue_reset(), both.optimizer.reset();
    for (const auto& piece : both.adapter.save())
      for (const std::byte b : piece.bytes) ASSERT_EQ(b, std::byte{0}) << piece.name;
    for (std::int64_t s = 3; s < 6; ++s) both.step(s);
    both.expect_same();
  }
}

TEST_F(DeviceAdapterTest, BadGradientsChangeNothing) {
  Both run({.rule = RangeRule::sgd});
  run.step(0);
  const auto before = run.values.get();
  run.base[20'000] = std::nanf("");
  EXPECT_FALSE(run.step(0).finite);
  EXPECT_EQ(run.values.get(), before);
  run.adapter.enqueue_clear_flag();
  run.gradients.set(std::vector<float>(elements, 0.0f));
  run.adapter.enqueue();
  run.adapter.enqueue_report(2);
  EXPECT_EQ(run.adapter.report(2).norm, 0.0);
  EXPECT_NE(run.values.get(), before) << "momentum moves on";
}

}  // namespace
}  // namespace fairway::optim
