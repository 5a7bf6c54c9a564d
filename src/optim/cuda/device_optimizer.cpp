#include "fairway/optim/device_optimizer.h"

#include <algorithm>
#include <functional>

#include "cuda/device_muon.h"
#include "cuda/mean_squares.h"
#include "cuda/range_step.h"
#include "fairway/base/error.h"
#include "kernels.h"
#include "trained_ranges.h"

namespace fairway::optim {

namespace gpu = cuda;

namespace {

enum RateOf : std::int32_t { matrix_rate, table_rate, scalar_rate };

std::vector<gpu::RangeSpec> range_specs(const OptimizerConfig& c, const ParameterMap& map) {
  std::vector<gpu::RangeSpec> specs;
  const auto add = [&](const FlatRange& range, RateOf rate, bool bf16) {
    specs.push_back({range,
                     {.lr_factor = 1.0,
                      .rate = rate,
                      .rule = gpu::Rule::adamw,
                      .bf16 = bf16,
                      .decoupled = c.adam_decoupled,
                      .beta1 = c.beta1,
                      .beta2 = c.beta2,
                      .eps = c.eps,
                      .weight_decay = c.adam_weight_decay}});
  };
  for (const auto& range : map.tables) add(range, table_rate, c.tables == Storage::bf16);
  for (const auto& range : map.scalars) add(range, scalar_rate, false);
  return specs;
}

std::vector<gpu::Range> sorted_ranges(const std::vector<FlatRange>& ranges, std::int64_t elements) {
  std::vector<gpu::Range> sorted;
  for (const auto& range : joined_ranges(ranges, elements)) sorted.push_back({range.begin, range.end});
  return sorted;
}

}  // namespace

struct DeviceOptimizer::Parts {
  OptimizerConfig config;
  ops::cuda::State& state;
  tensor::View values, gradients;
  DeviceAverages averages;
  std::vector<FlatRange> bf16_ranges;  // of the values
  gpu::RangeStep ranges;
  gpu::DeviceMuon muon;
  std::optional<gpu::MeanSquares> squares;
  tensor::Buffer ema, ema_count, swa_sum, swa_count, swa_ranges;
  std::int64_t swa_range_count = 0;

  Parts(const OptimizerConfig& c, const ParameterMap& map, tensor::View v, tensor::View g,
        const DeviceAverages& a, ops::cuda::State& s)
      : config(c),
        state(s),
        values(v),
        gradients(g),
        averages(a),
        ranges(s, v, g, trained_ranges(map, v.elements()), range_specs(c, map), c.grad_clip),
        muon(s, c, map.matrices, v, g, ranges.scheduled(), ranges.step_state()) {
    if (c.tables == Storage::bf16) bf16_ranges = map.tables;
    if (averages.ema_decay) {
      ema = gpu::device_array<float>(s, elements());
      ema_count = gpu::device_array<std::int64_t>(s, 1);
    }
    if (averages.swa) {
      const auto narrow = sorted_ranges(averages.swa_bf16_ranges, elements());
      swa_range_count = static_cast<std::int64_t>(narrow.size());
      swa_ranges = gpu::device_table(s, std::span<const gpu::Range>(narrow));
      swa_sum = gpu::device_array<float>(s, elements());
      swa_count = gpu::device_array<std::int64_t>(s, 1);
    }
    if (averages.squares) squares.emplace(s, map.matrices, g, ranges.step_state());
    // New memory is cleared on another stream than ours.
    tensor::synchronize(s.device());
    if (averages.ema_decay) {
      tensor::copy_bytes(s.device(), ema.data(), s.device(), values.data, values.bytes());
      if (ema_bf16()) gpu::round_values(stream(), elements(), gpu::data_of<float>(ema));
    }
    warm_up();
  }

  std::int64_t elements() const { return values.elements(); }
  cudaStream_t stream() const { return gpu::stream_of(state); }
  bool ema_bf16() const { return averages.ema_storage == Storage::bf16; }

  void enqueue_ema() {
    if (!averages.ema_decay) return;
    gpu::ema_update(stream(), {.scheduled = ranges.scheduled(),
                               .state = ranges.step_state(),
                               .n = elements(),
                               .keep = static_cast<float>(*averages.ema_decay),
                               .take = static_cast<float>(1.0 - *averages.ema_decay),
                               .bf16 = ema_bf16(),
                               .values = values.as<const float>(),
                               .average = gpu::data_of<float>(ema)});
    gpu::launched("the moving average");
  }

  void enqueue_norm() {
    ranges.enqueue_norm(averages.ema_decay ? gpu::data_of<std::int64_t>(ema_count) : nullptr);
  }

  void enqueue_swa() {
    base::check(averages.swa, "optimizer: no running sum was asked for");
    gpu::swa_add(stream(), ranges.step_state(), elements(), gpu::data_of<const gpu::Range>(swa_ranges),
                 swa_range_count, values.as<const float>(), gpu::data_of<float>(swa_sum),
                 gpu::data_of<const std::int64_t>(swa_count));
    gpu::swa_count_up(stream(), ranges.step_state(), gpu::data_of<std::int64_t>(swa_count));
    gpu::launched("the sum of snapshots");
  }

  gpu::MeanSquares& mean_squares() {
    base::check(squares.has_value(), "optimizer: no squared gradients were asked for");
    return *squares;
  }

  void enqueue_zero() { ops::cuda::zero_on_device(state, gradients.data, gradients.bytes()); }

  void enqueue() {
    enqueue_norm();
    muon.enqueue_direction();
    muon.enqueue_normalise();
    muon.enqueue_iterations();
    muon.enqueue_apply();
    ranges.enqueue_update();
    enqueue_ema();
  }

  struct Kind {
    DeviceWork work;
    std::function<void()> queue;
  };
  /// What every step does.
  std::vector<Kind> kinds() {
    const auto all = static_cast<double>(elements()), matrices = static_cast<double>(muon.elements());
    const auto width = static_cast<double>(muon.element_bytes());
    std::vector<Kind> result{
        {{"clear gradients", 4 * all, 0}, [this] { enqueue_zero(); }},
        {{"norm", 4.0 * static_cast<double>(ranges.norm_elements()), 0}, [this] { enqueue_norm(); }},
        {{"muon direction", (12 + width) * matrices, 0}, [this] { muon.enqueue_direction(); }},
        {{"muon normalise", 2 * width * matrices, 0}, [this] { muon.enqueue_normalise(); }},
        {{"muon products", muon.product_bytes(), muon.flops()}, [this] { muon.enqueue_iterations(); }},
        {{"muon apply", (8 + width) * matrices, 0}, [this] { muon.enqueue_apply(); }},
        {{"adamw", 28.0 * static_cast<double>(ranges.update_elements()), 0},
         [this] { ranges.enqueue_update(); }},
    };
    if (averages.ema_decay) result.push_back({{"ema", 12 * all, 0}, [this] { enqueue_ema(); }});
    return result;
  }

  /// Loads every kernel and chooses every algorithm, so that a capture finds all in place. With the flag set
  /// nothing changes but workspaces.
  void warm_up() {
    ranges.enqueue_flag(true);
    enqueue();
    if (averages.swa) enqueue_swa();
    if (squares) squares->enqueue();
    ranges.enqueue_flag(false);
    state.synchronize();
  }

  std::vector<DeviceStateBuffer> all_state() const {
    auto buffers = muon.state();
    for (auto& buffer : ranges.state("adamw.")) buffers.push_back(std::move(buffer));
    const auto add = [&](const char* name, const tensor::Buffer& buffer, std::size_t bytes) {
      buffers.push_back({name, buffer.data(), bytes});
    };
    if (averages.ema_decay) {
      add("average.ema.count", ema_count, sizeof(std::int64_t));
      add("average.ema", ema, values.bytes());
    }
    if (averages.swa) {
      add("average.swa.count", swa_count, sizeof(std::int64_t));
      add("average.swa.sum", swa_sum, values.bytes());
    }
    if (squares) buffers.push_back(squares->state());
    return buffers;
  }

  void fetch(const tensor::Buffer& from, void* to, std::size_t bytes) { fetch(from.data(), to, bytes); }
  void fetch(const std::byte* from, void* to, std::size_t bytes) {
    state.synchronize();
    tensor::copy_bytes({}, to, state.device(), from, bytes);
  }
};

DeviceOptimizer::DeviceOptimizer(const OptimizerConfig& config, const ParameterMap& map, tensor::View values,
                                 tensor::View gradients, const DeviceAverages& averages,
                                 ops::cuda::State& state) {
  state.make_current();
  parts_ = std::make_unique<Parts>(config, map, values, gradients, averages, state);
}
DeviceOptimizer::~DeviceOptimizer() = default;
DeviceOptimizer::DeviceOptimizer(DeviceOptimizer&&) noexcept = default;

StepReport DeviceOptimizer::prepare(const Progress& progress, EmaStep ema) {
  const OptimizerConfig& c = parts_->config;
  StepReport report;
  report.lr_scale = lr_scale(c.schedule, progress);
  report.momentum = momentum_at(c.muon_momentum, progress.step);
  gpu::Scheduled scheduled{};
  scheduled.lr[matrix_rate] = c.matrix_lr * report.lr_scale;
  scheduled.lr[table_rate] = c.table_lr * report.lr_scale;
  scheduled.lr[scalar_rate] = c.scalar_lr * report.lr_scale;
  scheduled.momentum = report.momentum;
  scheduled.ema = ema == EmaStep::start    ? gpu::AverageStep::start
                  : ema == EmaStep::update ? gpu::AverageStep::update
                                           : gpu::AverageStep::none;
  parts_->ranges.send(scheduled);
  return report;
}

void DeviceOptimizer::enqueue() { parts_->enqueue(); }
void DeviceOptimizer::enqueue_zero_gradients() { parts_->enqueue_zero(); }
void DeviceOptimizer::enqueue_swa_add() { parts_->enqueue_swa(); }
void DeviceOptimizer::enqueue_squares() { parts_->mean_squares().enqueue(); }
void DeviceOptimizer::enqueue_clear_flag() { parts_->ranges.enqueue_flag(false); }
void DeviceOptimizer::enqueue_report(int slot) { parts_->ranges.enqueue_report(slot); }
GradientNorm DeviceOptimizer::report(int slot) { return parts_->ranges.report(slot); }

void DeviceOptimizer::round_to_storage() {
  for (const auto& range : parts_->bf16_ranges)
    gpu::round_values(parts_->stream(), range.end - range.begin, parts_->values.as<float>() + range.begin);
  gpu::launched("rounding to bf16");
}

std::int64_t DeviceOptimizer::swa_count() {
  base::check(parts_->averages.swa, "optimizer: no running sum was asked for");
  std::int64_t count = 0;
  parts_->fetch(parts_->swa_count, &count, sizeof count);
  return count;
}

std::int64_t DeviceOptimizer::ema_count() {
  base::check(parts_->averages.ema_decay.has_value(), "optimizer: no moving average was asked for");
  std::int64_t count = 0;
  parts_->fetch(parts_->ema_count, &count, sizeof count);
  return count;
}

void DeviceOptimizer::ema(std::span<float> out) {
  base::check(parts_->averages.ema_decay.has_value(), "optimizer: no moving average was asked for");
  base::check(out.size_bytes() == parts_->values.bytes(), "ema: {} values for {}", out.size(),
              parts_->elements());
  parts_->fetch(parts_->ema, out.data(), out.size_bytes());
}

void DeviceOptimizer::swa_mean(std::span<float> out) {
  const std::int64_t count = swa_count();
  base::check(out.size_bytes() == parts_->values.bytes() && count > 0, "swa: {} snapshots, {} values for {}",
              count, out.size(), parts_->elements());
  parts_->fetch(parts_->swa_sum, out.data(), out.size_bytes());
  kernels::divide(out.data(), parts_->elements(), static_cast<float>(count));
  for (const auto& range : parts_->averages.swa_bf16_ranges)
    kernels::round_bf16(out.data() + range.begin, range.end - range.begin);
}

std::vector<double> DeviceOptimizer::square_sums() {
  const auto& squares = parts_->mean_squares();
  std::vector<double> sums(static_cast<std::size_t>(squares.count() + 1));
  const auto from = squares.state();
  parts_->fetch(from.data, sums.data(), from.bytes);
  return sums;
}

std::vector<DeviceStateBuffer> DeviceOptimizer::state() const { return parts_->all_state(); }
std::vector<SavedState> DeviceOptimizer::save() { return gpu::save_state(parts_->state, state()); }
void DeviceOptimizer::restore(std::string_view name, std::span<const std::byte> bytes) {
  gpu::restore_state(parts_->state, state(), name, bytes);
}

const OptimizerConfig& DeviceOptimizer::config() const noexcept { return parts_->config; }

std::size_t DeviceOptimizer::device_bytes() const noexcept {
  std::size_t bytes = parts_->ranges.device_bytes() + parts_->muon.device_bytes();
  for (const auto* buffer :
       {&parts_->ema, &parts_->ema_count, &parts_->swa_sum, &parts_->swa_count, &parts_->swa_ranges})
    bytes += buffer->bytes();
  return bytes + (parts_->squares ? parts_->squares->device_bytes() : 0);
}

std::vector<DeviceWork> DeviceOptimizer::work() const {
  std::vector<DeviceWork> all;
  for (auto& kind : parts_->kinds()) all.push_back(std::move(kind.work));
  return all;
}

std::vector<DeviceWork> DeviceOptimizer::measure(int repeats) {
  Parts& p = *parts_;
  auto kinds = p.kinds();
  if (p.averages.swa)
    kinds.push_back({{"swa", 12 * static_cast<double>(p.elements()), 0}, [&] { p.enqueue_swa(); }});
  if (p.squares)
    kinds.push_back({{"squared gradients", 4.0 * static_cast<double>(p.squares->elements()), 0},
                     [&] { p.squares->enqueue(); }});
  std::vector<DeviceWork> measured;
  ops::cuda::Event start(true), stop(true);
  for (auto& [work, queue] : kinds) {
    queue();
    start.record(p.state);
    for (int i = 0; i < repeats; ++i) queue();
    stop.record(p.state);
    work.milliseconds = 1e3 * stop.seconds_since(start) / repeats;
    measured.push_back(work);
  }
  return measured;
}

}  // namespace fairway::optim
