#pragma once
// The same training on the CPU and on a GPU.

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "fairway/ops/cuda.h"
#include "fairway/ops/cuda_work.h"
#include "fairway/optim/average.h"
#include "fairway/optim/device_optimizer.h"
#include "fairway/tensor/buffer.h"
#include "fairway/tensor/cuda.h"
#include "optim/helpers.h"
#include "support/compare.h"

namespace fairway::optim {

/// Skips where there is no GPU or no product library, and says why.
class OnGpu : public ::testing::Test {
 protected:
  void SetUp() override {
    if (const auto reason = tensor::cuda_unavailable_reason(); !reason.empty())
      GTEST_SKIP() << "needs a GPU: " << reason;
    if (const auto reason = ops::cuda::products_unavailable_reason(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

/// A flat buffer as layouts make them.
struct Layout {
  ParameterMap map;
  std::int64_t elements = 0;

  void gap(std::int64_t multiple) { elements = (elements + multiple - 1) / multiple * multiple; }
  void matrix(std::int64_t rows, std::int64_t columns) {
    map.matrices.push_back({"w" + std::to_string(map.matrices.size()), elements, rows, columns});
    elements += rows * columns;
  }
  void table(std::int64_t n) {
    map.tables.push_back({"t" + std::to_string(map.tables.size()), elements, elements + n});
    elements += n;
  }
  void scalars(std::int64_t n) {
    map.scalars.push_back({"s" + std::to_string(map.scalars.size()), elements, elements + n});
    elements += n;
  }
};

/// Odd sizes, equal shapes apart from each other, starts that no vector access suits, a frozen rest.
inline Layout odd_layout() {
  Layout l;
  l.matrix(97, 65), l.matrix(33, 129), l.matrix(129, 33), l.matrix(33, 129);  // packed: no gaps
  l.gap(16);
  l.matrix(64, 96), l.matrix(96, 64), l.matrix(129, 33), l.matrix(64, 96), l.matrix(1, 7), l.matrix(7, 1);
  l.gap(16);
  l.table(20'011), l.table(4096);
  l.scalars(301), l.scalars(1), l.gap(16), l.scalars(512);
  l.elements += 37;
  return l;
}

/// `layers` layers with the shapes of the 27 M model.
inline Layout model_layout(int layers) {
  Layout l;
  for (int i = 0; i < layers; ++i) {
    for (const auto& [rows, columns] :
         {std::pair{512, 512}, {256, 512}, {256, 512}, {512, 512}, {1536, 512}, {512, 1536}})
      l.matrix(rows, columns);
  }
  l.matrix(512, 128), l.matrix(256, 128);
  l.table(1024 * 512), l.table(2048 * 128), l.table(1024 * 128);
  for (int i = 0; i < layers; ++i)
    l.scalars(512), l.scalars(512), l.scalars(1024), l.gap(16), l.scalars(8), l.gap(16);
  return l;
}

inline OptimizerConfig short_run(Precision precision, Storage tables) {
  OptimizerConfig config;
  config.muon_momentum.steps = 12;
  config.ns_precision = precision;
  config.tables = tables;
  config.schedule = {ScheduleKind::steps, 30, 0.0, 20};
  return config;
}

/// Gradients of step s: the same numbers at another place, larger or smaller, so that clipping does and does
/// not bite.
inline void fill_gradients(std::span<const float> base, std::int64_t step, std::span<float> out) {
  const std::size_t n = out.size(), shift = static_cast<std::size_t>(step * 7919 + 13) % n;
  const float factor = step % 3 == 0 ? 1.0f : step % 3 == 1 ? 0.01f : 1e-4f;
  for (std::size_t i = 0; i < n; ++i) out[i] = factor * base[i + shift < n ? i + shift : i + shift - n];
}

/// Arrays on the GPU with a copy function each way.
class DeviceFloats {
 public:
  DeviceFloats(ops::cuda::State& state, std::span<const float> values)
      : state_(&state), buffer_(state.device(), values.size_bytes()), count_(values.size()) {
    set(values);
  }
  void set(std::span<const float> values) {
    state_->synchronize();
    tensor::copy_bytes(state_->device(), buffer_.data(), {}, values.data(), values.size_bytes());
  }
  std::vector<float> get() const {
    state_->synchronize();
    std::vector<float> values(count_);
    tensor::copy_bytes({}, values.data(), state_->device(), buffer_.data(), count_ * sizeof(float));
    return values;
  }
  tensor::View view() const {
    return {buffer_.data(), {tensor::DType::f32, {static_cast<std::int64_t>(count_)}}};
  }

 private:
  ops::cuda::State* state_;
  tensor::Buffer buffer_;
  std::size_t count_;
};

struct CpuRun {
  CpuRun(const Layout& layout, const OptimizerConfig& config, const DeviceAverages& averages = {})
      : pool(4),
        values(normals("values", static_cast<std::size_t>(layout.elements), 0.1)),
        base(normals("gradients", values.size(), 0.01)),
        gradients(values.size()),
        optimizer(config, layout.map, values, gradients, pool) {
    optimizer.round_to_storage(values);
    if (averages.ema_decay) ema.emplace(*averages.ema_decay, values, averages.ema_storage);
    if (averages.swa) swa.emplace(layout.elements, averages.swa_bf16_ranges);
  }
  StepReport step(std::int64_t s) {
    fill_gradients(base, s, gradients);
    const auto report = optimizer.step({s, 0.0});
    if (ema) ema->update(values, pool);
    if (swa && s % 3 == 0) swa->add(values, pool);
    return report;
  }
  base::ThreadPool pool;
  std::vector<float> values, base, gradients;
  Optimizer optimizer;
  std::optional<Ema> ema;
  std::optional<Swa> swa;
};

struct GpuRun {
  GpuRun(const Layout& layout, const OptimizerConfig& config, const DeviceAverages& averages = {})
      : state({tensor::DeviceKind::cuda, 0}),
        base(normals("gradients", static_cast<std::size_t>(layout.elements), 0.01)),
        host_gradients(base.size()),
        values(state, start(layout, config)),
        gradients(state, host_gradients),
        with_swa(averages.swa),
        optimizer(config, layout.map, values.view(), gradients.view(), averages, state) {}

  static std::vector<float> start(const Layout& layout, const OptimizerConfig& config) {
    auto v = normals("values", static_cast<std::size_t>(layout.elements), 0.1);
    if (config.tables == Storage::bf16)
      for (const auto& t : layout.map.tables)
        for (std::int64_t i = t.begin; i < t.end; ++i)
          v[static_cast<std::size_t>(i)] = tensor::round_to_bf16(v[static_cast<std::size_t>(i)]);
    return v;
  }
  void set_gradients(std::int64_t s) {
    fill_gradients(base, s, host_gradients);
    gradients.set(host_gradients);
  }
  GradientNorm step(std::int64_t s) {
    set_gradients(s);
    optimizer.prepare({s, 0.0});
    optimizer.enqueue();
    if (with_swa && s % 3 == 0) optimizer.enqueue_swa_add();
    optimizer.enqueue_report(0);
    return optimizer.report(0);
  }
  ops::cuda::State state;
  std::vector<float> base, host_gradients;
  DeviceFloats values, gradients;
  bool with_swa;
  DeviceOptimizer optimizer;
};

/// |a - b| / |b| over [begin, end).
inline double relative_distance(std::span<const float> a, std::span<const float> b, std::int64_t begin,
                                std::int64_t end) {
  const auto first = static_cast<std::size_t>(begin), count = static_cast<std::size_t>(end - begin);
  return testing::norm_relative(a.subspan(first, count), b.subspan(first, count));
}

/// The worst of all matrices.
inline double worst_matrix(const Layout& layout, std::span<const float> a, std::span<const float> b) {
  testing::Largest worst;
  for (const auto& m : layout.map.matrices)
    worst.see(relative_distance(a, b, m.offset, m.offset + m.rows * m.columns));
  return worst.value();
}

}  // namespace fairway::optim
