#include "fairway/optim/device_adapter.h"

#include "cuda/range_step.h"
#include "fairway/base/error.h"
#include "trained_ranges.h"

namespace fairway::optim {

namespace gpu = cuda;

namespace {

gpu::Rule rule_of(RangeRule rule, Storage storage) {
  if (rule == RangeRule::sgd) return gpu::Rule::sgd;
  return storage == Storage::bf16 ? gpu::Rule::bf16_adam : gpu::Rule::adamw;
}

std::vector<gpu::RangeSpec> range_specs(const RangeOptimizerConfig& c,
                                        const std::vector<OptimizedRange>& ranges) {
  std::vector<gpu::RangeSpec> specs;
  for (const auto& range : ranges)
    specs.push_back({{range.name, range.begin, range.end},
                     {.lr_factor = range.lr_factor,
                      .rate = 0,
                      .rule = rule_of(c.rule, range.storage),
                      .bf16 = range.storage == Storage::bf16,
                      .decoupled = c.rule == RangeRule::adamw,
                      .beta1 = c.rule == RangeRule::sgd ? c.momentum : c.beta1,
                      .beta2 = c.beta2,
                      .eps = c.eps,
                      .weight_decay = c.weight_decay}});
  return specs;
}

std::vector<FlatRange> adapted_ranges(const std::vector<OptimizedRange>& ranges, std::int64_t elements) {
  std::vector<FlatRange> flat;
  for (const auto& range : ranges) flat.push_back({range.name, range.begin, range.end});
  return joined_ranges(std::move(flat), elements);
}

}  // namespace

struct DeviceAdapter::Parts {
  ops::cuda::State& state;
  gpu::RangeStep step;

  Parts(const RangeOptimizerConfig& c, const std::vector<OptimizedRange>& ranges, tensor::View values,
        tensor::View g, ops::cuda::State& s)
      : state(s),
        step(s, values, g, adapted_ranges(ranges, values.elements()), range_specs(c, ranges), c.grad_clip) {
    tensor::synchronize(s.device());  // new memory is cleared on another stream than ours
    step.enqueue_flag(true);          // loads the kernels; changes nothing
    enqueue();
    step.enqueue_flag(false);
    s.synchronize();
  }

  void enqueue() {
    step.enqueue_norm();
    step.enqueue_update();
  }
};

DeviceAdapter::DeviceAdapter(const RangeOptimizerConfig& config, const std::vector<OptimizedRange>& ranges,
                             tensor::View values, tensor::View gradients, ops::cuda::State& state) {
  state.make_current();
  parts_ = std::make_unique<Parts>(config, ranges, values, gradients, state);
}
DeviceAdapter::~DeviceAdapter() = default;
DeviceAdapter::DeviceAdapter(DeviceAdapter&&) noexcept = default;

void DeviceAdapter::prepare(double lr) {
  gpu::Scheduled scheduled{};
  scheduled.lr[0] = lr;
  parts_->step.send(scheduled);
}

void DeviceAdapter::enqueue() { parts_->enqueue(); }

void DeviceAdapter::enqueue_clear_flag() { parts_->step.enqueue_flag(false); }
void DeviceAdapter::enqueue_reset() { parts_->step.enqueue_reset(); }
void DeviceAdapter::enqueue_report(int slot) { parts_->step.enqueue_report(slot); }
GradientNorm DeviceAdapter::report(int slot) { return parts_->step.report(slot); }

std::vector<DeviceStateBuffer> DeviceAdapter::state() const { return parts_->step.state(""); }
std::vector<SavedState> DeviceAdapter::save() { return gpu::save_state(parts_->state, state()); }
void DeviceAdapter::restore(std::string_view name, std::span<const std::byte> bytes) {
  gpu::restore_state(parts_->state, state(), name, bytes);
}

}  // namespace fairway::optim
