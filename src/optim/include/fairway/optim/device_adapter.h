#pragma once
// The update of test-time training on a GPU. Declared in every build; without the CUDA backend it cannot be
// made.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/ops/cuda.h"
#include "fairway/optim/device_state.h"
#include "fairway/optim/range_optimizer.h"
#include "fairway/tensor/view.h"

namespace fairway::optim {

/// RangeOptimizer on a GPU: the same operations on each element in the same order, with the use, flag and
/// guarantees of DeviceOptimizer; the caller gives the learning rate of each step.
class DeviceAdapter {
 public:
  static constexpr int report_slots = 4;

  DeviceAdapter(const RangeOptimizerConfig& config, const std::vector<OptimizedRange>& ranges,
                tensor::View values, tensor::View gradients, ops::cuda::State& state);
  ~DeviceAdapter();
  DeviceAdapter(DeviceAdapter&&) noexcept;
  DeviceAdapter& operator=(DeviceAdapter&&) = delete;

  void prepare(double lr);  ///< queues the upload of this step's rate
  void enqueue();
  void enqueue_clear_flag();
  void enqueue_reset();  ///< moments and counters to zero: a new optimiser, as for a new pass
  void enqueue_report(int slot);
  GradientNorm report(int slot);

  /// With the CPU's names: "NAME.step|m|v" or "NAME.momentum".
  std::vector<DeviceStateBuffer> state() const;
  std::vector<SavedState> save();
  void restore(std::string_view name, std::span<const std::byte> bytes);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace fairway::optim
