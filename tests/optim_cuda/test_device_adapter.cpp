// SGD and Adam over chosen ranges, against the formulas on the host.
#include "both.h"
#include "fairway/optim/device_adapter.h"

namespace fairway::optim {
namespace {

class DeviceAdapterTest : public OnGpu {};

/// Ranges apart from each other, one at an odd start, one in bf16; the rest is frozen.
std::vector<AdaptedRange> some_ranges() {
  return {{"a", 64, 9000, 1.0, Storage::f32},
          {"b", 9001, 29'011, 3.0, Storage::f32},
          {"c", 29'024, 30'000, 0.5, Storage::bf16}};
}
constexpr std::size_t elements = 30'100;

float stored(Storage storage, float x) { return storage == Storage::bf16 ? tensor::round_to_bf16(x) : x; }

struct Adapted {
  explicit Adapted(const AdapterConfig& config)
      : state({tensor::DeviceKind::cuda, 0}),
        host(normals("values", elements, 0.1)),
        base(normals("gradients", elements, 0.01)),
        host_gradients(elements) {
    for (const auto& r : some_ranges())
      for (auto i = static_cast<std::size_t>(r.begin); i < static_cast<std::size_t>(r.end); ++i)
        host[i] = stored(r.storage, host[i]);
    values = std::make_unique<DeviceFloats>(state, host);
    gradients = std::make_unique<DeviceFloats>(state, host_gradients);
    adapter =
        std::make_unique<DeviceAdapter>(config, some_ranges(), values->view(), gradients->view(), state);
  }
  GradientNorm step(std::int64_t s, double lr) {
    fill_gradients(base, s, host_gradients);
    gradients->set(host_gradients);
    adapter->prepare(lr);
    adapter->enqueue();
    adapter->enqueue_report(0);
    return adapter->report(0);
  }
  ops::cuda::State state;
  std::vector<float> host, base, host_gradients;
  std::unique_ptr<DeviceFloats> values, gradients;
  std::unique_ptr<DeviceAdapter> adapter;
};

double lr_of(std::int64_t s) { return 0.01 * (1.0 - 0.1 * static_cast<double>(s)); }

void expect_close(std::span<const float> now, std::span<const float> expected) {
  for (const auto& r : some_ranges()) {
    EXPECT_LE(relative_distance(now, expected, r.begin, r.end), r.storage == Storage::bf16 ? 1e-4 : 1e-6)
        << r.name;
  }
}

TEST_F(DeviceAdapterTest, Sgd) {
  Adapted run({.rule = UpdateRule::sgd, .momentum = 0.9, .grad_clip = 1.0});
  const auto before = run.host;
  std::vector<float> momentum(elements);
  for (std::int64_t s = 0; s < 5; ++s) {
    const double norm = run.step(s, lr_of(s)).norm;
    const float clip = clip_factor(norm, 1.0);
    for (const auto& r : some_ranges())
      for (auto i = static_cast<std::size_t>(r.begin); i < static_cast<std::size_t>(r.end); ++i) {
        momentum[i] = stored(r.storage, stored(r.storage, 0.9f * momentum[i]) + run.host_gradients[i] * clip);
        run.host[i] =
            stored(r.storage, run.host[i] - static_cast<float>(lr_of(s) * r.lr_factor) * momentum[i]);
      }
  }
  const auto now = run.values->get();
  expect_close(now, run.host);
  EXPECT_GT(relative_distance(before, now, 64, 9000), 1e-3) << "the test's steps are too small to tell";
  for (const std::size_t frozen : {0, 63, 9000, 29'011, 29'023, 30'000})
    EXPECT_EQ(now[frozen], before[frozen]);
  const auto state = run.adapter->save();
  ASSERT_EQ(state.size(), 3u);
  EXPECT_EQ(state[1].name, "sgd.b.momentum");
  EXPECT_EQ(0, std::memcmp(state[0].bytes.data(), momentum.data() + 64, state[0].bytes.size()));
}

TEST_F(DeviceAdapterTest, AdamAndANewPass) {
  AdapterConfig config{.grad_clip = 1.0};
  Adapted run(config);
  base::ThreadPool pool(1);
  for (int pass = 0; pass < 2; ++pass) {
    std::vector<AdamW> adams;
    for (const auto& r : some_ranges()) {
      auto c = config.adamw;
      c.storage = r.storage;
      adams.emplace_back(c, r.end - r.begin);
    }
    for (std::int64_t s = 0; s < 4; ++s) {
      const float clip = clip_factor(run.step(s, lr_of(s)).norm, 1.0);
      for (std::size_t k = 0; k < adams.size(); ++k) {
        const auto r = some_ranges()[k];
        const auto begin = static_cast<std::size_t>(r.begin),
                   size = static_cast<std::size_t>(r.end - r.begin);
        adams[k].step(std::span(run.host).subspan(begin, size),
                      std::span(run.host_gradients).subspan(begin, size), lr_of(s) * r.lr_factor, clip, pool);
      }
    }
    expect_close(run.values->get(), run.host);
    run.values->set(run.host);  // so that a last bit of pass 1 does not grow in pass 2
    run.adapter->enqueue_reset();
  }
  for (const auto& piece : run.adapter->save())
    for (const std::byte b : piece.bytes) ASSERT_EQ(b, std::byte{0}) << piece.name;
}

TEST_F(DeviceAdapterTest, BadGradientsChangeNothing) {
  Adapted run({.rule = UpdateRule::sgd});
  run.step(0, 0.1);
  const auto before = run.values->get();
  run.base[20'000] = std::nanf("");
  EXPECT_FALSE(run.step(0, 0.1).finite);
  EXPECT_EQ(run.values->get(), before);
  run.adapter->enqueue_clear_flag();
  run.adapter->enqueue_zero_gradients();
  run.adapter->enqueue();
  run.adapter->enqueue_report(2);
  EXPECT_EQ(run.adapter->report(2).norm, 0.0);
  EXPECT_NE(run.values->get(), before) << "momentum moves on";
}

}  // namespace
}  // namespace fairway::optim
