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
    if (const auto reason = ops::cuda::gemm_unavailable_reason(); !reason.empty()) GTEST_SKIP() << reason;
  }
};

/// A flat buffer as layouts make them.
struct Layout {
  TrainedParameters parameters;
  std::int64_t elements = 0;

  void gap(std::int64_t multiple) { elements = (elements + multiple - 1) / multiple * multiple; }
  void matrix(std::int64_t rows, std::int64_t columns) {
    add(parameters.matrices, "w", rows * columns);
    parameters.matrices.back().rows = rows;
    parameters.matrices.back().columns = columns;
  }
  void embedding(std::int64_t n) { add(parameters.embeddings, "t", n); }
  void scalars(std::int64_t n) { add(parameters.scalars, "s", n); }

 private:
  void add(std::vector<ParamRange>& list, const char* letter, std::int64_t n) {
    list.push_back({letter + std::to_string(list.size()), {elements, elements + n}});
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
  l.embedding(20'011), l.embedding(4096);
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
  l.embedding(1024 * 512), l.embedding(2048 * 128), l.embedding(1024 * 128);
  for (int i = 0; i < layers; ++i)
    l.scalars(512), l.scalars(512), l.scalars(1024), l.gap(16), l.scalars(8), l.gap(16);
  return l;
}

inline TrainingConfig short_run(tensor::DType newton_schulz, tensor::DType embeddings) {
  TrainingConfig config;
  config.muon_momentum.steps = 12;
  config.ns_dtype = newton_schulz;
  config.embeddings = embeddings;
  return config;
}
inline StepValues values_at(const TrainingConfig& config, std::int64_t step, EmaStep ema = EmaStep::update) {
  return step_values(config, lr_scale_by_steps(step, 30, 20), step, ema, static_cast<double>(step) / 30);
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

/// One step of these tests, averages included.
inline GradientNorm whole_step(Optimizer& optimizer, const TrainingConfig& config, const Averages& averages,
                               std::int64_t s) {
  const auto report = optimizer.step(values_at(config, s));
  if (averages.swa && s % 3 == 0) optimizer.enqueue_swa_add();
  return report;
}

struct CpuRun {
  CpuRun(const Layout& layout, const TrainingConfig& training, const Averages& a = {}, int ranks = 1)
      : config(training),
        averages(a),
        pool(4),
        values(start(layout, training)),
        base(normals("gradients", values.size(), 0.01)),
        gradients(values.size()),
        optimizer(optimizer_of(optimizer_config(config, layout.parameters, averages, ranks), values,
                               gradients, pool)) {}

  static std::vector<float> start(const Layout& layout, const TrainingConfig& config) {
    auto v = normals("values", static_cast<std::size_t>(layout.elements), 0.1);
    round_to_storage(optimizer_config(config, layout.parameters), v);
    return v;
  }
  GradientNorm step(std::int64_t s) {
    fill_gradients(base, s, gradients);
    return whole_step(*optimizer, config, averages, s);
  }
  TrainingConfig config;
  Averages averages;
  base::ThreadPool pool;
  std::vector<float> values, base, gradients;
  std::unique_ptr<Optimizer> optimizer;
};

struct GpuRun {
  GpuRun(const Layout& layout, const TrainingConfig& training, const Averages& a = {}, int ranks = 1)
      : config(training),
        averages(a),
        state({tensor::DeviceKind::cuda, 0}),
        base(normals("gradients", static_cast<std::size_t>(layout.elements), 0.01)),
        host_gradients(base.size()),
        values(state, CpuRun::start(layout, training)),
        gradients(state, host_gradients),
        optimizer(make_optimizer(optimizer_config(config, layout.parameters, averages, ranks), values.view(),
                                 gradients.view(), nullptr, &state)) {}

  void set_gradients(std::int64_t s) {
    fill_gradients(base, s, host_gradients);
    gradients.set(host_gradients);
  }
  GradientNorm step(std::int64_t s) {
    set_gradients(s);
    return whole_step(*optimizer, config, averages, s);
  }
  /// The average as it is now.
  std::vector<float> average(Average kind) {
    std::vector<float> out(base.size());
    optimizer->read_average(kind, out);
    return out;
  }
  TrainingConfig config;
  Averages averages;
  ops::cuda::State state;
  std::vector<float> base, host_gradients;
  DeviceFloats values, gradients;
  std::unique_ptr<Optimizer> optimizer;
};

/// |a - b| / |b| over a range.
inline double relative_distance(std::span<const float> a, std::span<const float> b, base::Range range) {
  return testing::norm_relative(range.of(a), range.of(b));
}

/// The worst of all matrices.
inline double worst_matrix(const Layout& layout, std::span<const float> a, std::span<const float> b) {
  testing::Largest worst;
  for (const auto& m : layout.parameters.matrices) worst.see(relative_distance(a, b, m.range));
  return worst.value();
}

}  // namespace fairway::optim
