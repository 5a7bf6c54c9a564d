// SGD and Adam over chosen ranges, against the formulas on the host.
#include "both.h"

namespace fairway::optim {
namespace {

using tensor::DType;

class DeviceRules : public OnGpu {};

/// Ranges apart from each other, one at an odd start, two in bf16; the rest is frozen.
OptimizerConfig some_ranges(UpdateRule rule, double grad_clip = 0) {
  rule.stepwise = true;
  const std::vector<ParamRange> wide = {{.name = "a", .range = {64, 9000}},
                                        {.name = "b", .range = {9001, 29'011}, .lr_factor = 3.0}},
                                narrow = {{.name = "c", .range = {29'024, 30'000}, .lr_factor = 0.5},
                                          {.name = "d", .range = {30'000, 40'003}}};
  return {.groups = {{rule, 0, DType::f32, wide}, {rule, 0, DType::bf16, narrow}},
          .grad_clip = grad_clip,
          .norm_by_range = true};
}
constexpr std::size_t elements = 40'100;

double lr_of(std::int64_t s) { return 0.01 * (1.0 - 0.1 * static_cast<double>(s)); }

/// The same updates on the CPU and on a GPU.
struct Both {
  explicit Both(const OptimizerConfig& c)
      : config(c),
        state({tensor::DeviceKind::cuda, 0}),
        pool(2),
        host(start()),
        base(normals("gradients", elements, 0.01)),
        host_gradients(elements),
        values(state, host),
        gradients(state, host_gradients),
        here(optimizer_of(config, host, host_gradients, pool)),
        there(make_optimizer(config, values.view(), gradients.view(), nullptr, &state)) {}

  std::vector<float> start() const {
    auto v = normals("values", elements, 0.1);
    round_to_storage(config, v);
    return v;
  }
  GradientNorm step(std::int64_t s) {
    fill_gradients(base, s, host_gradients);
    gradients.set(host_gradients);
    const auto on_gpu = there->step(at_rate(lr_of(s))), on_cpu = here->step(at_rate(lr_of(s)));
    EXPECT_EQ(on_gpu.finite, on_cpu.finite);
    if (on_cpu.finite) {
      EXPECT_NEAR(on_gpu.norm, on_cpu.norm, 1e-12 * on_cpu.norm);
    }
    return on_gpu;
  }
  /// The norm's last bits may differ, hardly ever the clip factor's: values are the same up to that.
  void expect_same() {
    const auto now = values.get();
    for (const auto& group : config.groups)
      for (const auto& p : group.parameters)
        EXPECT_LE(relative_distance(now, host, p.range), group.storage == DType::bf16 ? 1e-4 : 1e-6)
            << p.name;
    const auto before = start();
    for (const std::size_t i : {0, 63, 9000, 29'011, 29'023, 40'003})
      EXPECT_EQ(now[i], before[i]) << "frozen";
    EXPECT_GT(relative_distance(before, now, {64, 9000}), 1e-3) << "the test's steps are too small to tell";
  }
  const OptimizerConfig config;
  ops::cuda::State state;
  base::ThreadPool pool;
  std::vector<float> host, base, host_gradients;
  DeviceFloats values, gradients;
  std::unique_ptr<Optimizer> here, there;
};

TEST_F(DeviceRules, FollowTheCpu) {
  for (const auto kind : {RuleKind::adam, RuleKind::adamw, RuleKind::sgd})
    for (const double decay : {0.0, 0.1}) {
      Both both(some_ranges({.kind = kind, .weight_decay = decay}, 1.0));
      for (std::int64_t s = 0; s < 6; ++s) both.step(s);
      both.expect_same();
    }
}

TEST_F(DeviceRules, StateHasTheCpusNames) {
  for (const auto kind : {RuleKind::adamw, RuleKind::sgd}) {
    Both both(some_ranges({.kind = kind}));
    for (std::int64_t s = 0; s < 3; ++s) both.step(s);
    const auto there = state_of(*both.there), here = state_of(*both.here);
    ASSERT_EQ(there.size(), here.size());
    for (const auto& [name, bytes] : here) EXPECT_EQ(there.at(name).size(), bytes.size()) << name;
    set_state(*both.there, here);
    both.values.set(both.host);
    for (std::int64_t s = 3; s < 5; ++s) both.step(s);
    both.expect_same();
  }
}

TEST_F(DeviceRules, ResetIsANewOptimiser) {
  for (const auto kind : {RuleKind::adamw, RuleKind::sgd}) {
    Both both(some_ranges({.kind = kind}, 1.0));
    for (std::int64_t s = 0; s < 3; ++s) both.step(s);
    both.there->enqueue_reset(), both.here->enqueue_reset();
    for (const auto& [name, bytes] : state_of(*both.there))
      EXPECT_EQ(bytes, std::vector<std::byte>(bytes.size())) << name;
    for (std::int64_t s = 3; s < 6; ++s) both.step(s);
    both.expect_same();
  }
}

TEST_F(DeviceRules, BadGradientsChangeNothing) {
  Both run(some_ranges({.kind = RuleKind::sgd}));
  run.step(0);
  const auto before = run.values.get();
  run.base[20'000] = std::nanf("");
  EXPECT_FALSE(run.step(0).finite);
  EXPECT_EQ(run.values.get(), before);
  run.there->enqueue_clear_flag();
  run.there->enqueue_zero_gradients();
  EXPECT_EQ(run.there->step(at_rate(0.01)).norm, 0.0);
  EXPECT_NE(run.values.get(), before) << "momentum moves on";
}

}  // namespace
}  // namespace fairway::optim
