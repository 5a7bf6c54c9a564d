#pragma once
// The update of test-time training on a GPU (spec/ttt.md): one rule over chosen parts of the parameters, each
// with its own factor on the learning rate. Declared in every build; without the CUDA backend it cannot be
// made.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/ops/cuda.h"
#include "fairway/optim/adamw.h"
#include "fairway/optim/device_state.h"
#include "fairway/optim/gradient.h"
#include "fairway/tensor/view.h"

namespace fairway::optim {

/// sgd: v <- round(round(momentum v) + g),  p <- round(p - lr v); rounded where the storage is bf16.
enum class UpdateRule { adamw, sgd };

struct AdapterConfig {
  UpdateRule rule = UpdateRule::adamw;
  AdamWConfig adamw{0.9, 0.999, 1e-8,
                    0.0, true,  Storage::f32};  ///< `storage` is not used: ranges have theirs
  double momentum = 0.9;                        ///< of sgd
  double grad_clip = 0.0;                       ///< over all ranges; 0: none
};

/// A part of the flat buffers that adapts; what is in none is frozen.
struct AdaptedRange {
  std::string name;
  std::int64_t begin = 0, end = 0;
  double lr_factor = 1.0;
  Storage storage = Storage::f32;
};

/// The same use, flag and guarantees as DeviceOptimizer; the caller gives the learning rate of each step.
class DeviceAdapter {
 public:
  static constexpr int report_slots = 4;

  DeviceAdapter(const AdapterConfig& config, const std::vector<AdaptedRange>& ranges, tensor::View values,
                tensor::View gradients, ops::cuda::State& state);
  ~DeviceAdapter();
  DeviceAdapter(DeviceAdapter&&) noexcept;
  DeviceAdapter& operator=(DeviceAdapter&&) = delete;

  void prepare(double lr);  ///< queues the upload of this step's rate
  void enqueue();
  void enqueue_zero_gradients();  ///< of the adapted ranges' gradients
  void enqueue_clear_flag();
  void enqueue_reset();  ///< moments and counters to zero: a new optimiser, as for a new pass
  void enqueue_report(int slot);
  GradientNorm report(int slot);

  /// "adamw.NAME.step|m|v" or "sgd.NAME.momentum".
  std::vector<DeviceStateBuffer> state() const;
  std::vector<SavedState> save();
  void restore(std::string_view name, std::span<const std::byte> bytes);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace fairway::optim
