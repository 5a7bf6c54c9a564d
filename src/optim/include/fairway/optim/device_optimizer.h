#pragma once
// optim::Optimizer, Ema and Swa on a GPU: all state lives there, and a step is a fixed sequence of kernels
// that can be captured once and replayed. Declared in every build; without the CUDA backend it cannot be
// made.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/ops/cuda.h"
#include "fairway/optim/device_state.h"
#include "fairway/optim/optimizer.h"
#include "fairway/tensor/view.h"

namespace fairway::optim {

/// Which averages are kept: of the weights (see average.h), of the matrices' squared gradients.
struct DeviceAverages {
  std::optional<double> ema_decay;
  Storage ema_storage = Storage::f32;
  bool swa = false;
  std::vector<FlatRange> swa_bf16_ranges;
  bool squares = false;  ///< enqueue_squares may be called
};

/// What a step does to the EMA after its update: nothing, e <- theta (Ema::start), or Ema::update.
enum class EmaStep { none, start, update };

/// One kind of work of a step: what it moves and computes by count, and (measured) how long it took.
struct DeviceWork {
  std::string name;
  double bytes = 0, flops = 0;
  double milliseconds = 0;
};

/// Use, for each step:
///   prepare(progress)             host: schedules; queues their upload
///   gradients: zeroed, then added to by the model's backward passes
///   enqueue()                     or the launch of a graph that captured it
///   enqueue_swa_add()             when the caller's rule says so
///   enqueue_squares()             likewise
///   enqueue_report(slot)          not captured; report(slot) a step later
/// Everything runs on the state's stream in that order; the host waits only in functions that return data.
///
/// A NaN or infinity among the gradients sets a flag on the device. While it is set, values, moments,
/// averages and counters stay as they are; enqueue_clear_flag() clears it.
///
/// Numbers: AdamW, EMA and SWA do the same fp32 operations in the same order as on the CPU. Newton-Schulz
/// takes whole products of batches of equal shapes: in f32 within about 1e-5 of the CPU's; in bf16 each
/// of the three products of an iteration is rounded once (spec/training.md section 4 leaves that open), where
/// the CPU rounds its parts like the original. The same gradients give the same bytes on the same GPU type
/// and library version: no atomics, every sum in an order that the layout alone decides.
class DeviceOptimizer {
 public:
  static constexpr int report_slots = 4;

  /// `values` and `gradients`: flat f32 arrays of one layout in `state`'s device memory. They and `state`
  /// must outlive the optimiser. The EMA starts from `values` as they are now. Allocates everything, runs
  /// each kernel once with the flag set (which loads them and chooses the products' algorithms) and waits:
  /// enqueue may be captured at once. Throws bad input when the device cannot be used, check errors for a map
  /// that does not fit.
  DeviceOptimizer(const OptimizerConfig& config, const ParameterMap& map, tensor::View values,
                  tensor::View gradients, const DeviceAverages& averages, ops::cuda::State& state);
  ~DeviceOptimizer();
  DeviceOptimizer(DeviceOptimizer&&) noexcept;
  DeviceOptimizer& operator=(DeviceOptimizer&&) = delete;

  /// Computes the scheduled values and queues their upload. May be called while up to three earlier steps are
  /// still running; waits for the oldest beyond that. The report's gradient and clip are not known yet.
  StepReport prepare(const Progress& progress, EmaStep ema = EmaStep::update);
  /// Queues norm, clip, Muon, AdamW and EMA with the values of the last prepare. No host work, no allocation:
  /// may be captured into a graph.
  void enqueue();
  void enqueue_zero_gradients();  ///< may be captured
  void enqueue_swa_add();         ///< may be captured
  /// Adds each matrix's mean squared gradient, not clipped, to those of the steps before; the gradients must
  /// still be the step's. May be captured.
  void enqueue_squares();
  void enqueue_clear_flag();  ///< may be captured

  /// Queues a copy of the last step's norm and of the flag to the host. Not to be captured. A slot is free
  /// again after its report was read.
  void enqueue_report(int slot);
  /// Waits for the copy. `finite` is false from the first bad step on until the flag is cleared.
  GradientNorm report(int slot);

  /// Queues the rounding of the values that are stored as bf16; for a start or a load.
  void round_to_storage();

  // These wait for the stream.
  std::int64_t swa_count();
  std::int64_t ema_count();             ///< steps that started or updated the EMA; only with ema_decay
  void ema(std::span<float> out);       ///< the average; only with ema_decay
  void swa_mean(std::span<float> out);  ///< sum / count; only with swa, and a count above 0
  /// What enqueue_squares added up, for each matrix of the map in its order, then the number of steps; only
  /// with squares.
  std::vector<double> square_sums();

  /// Everything that has to be saved, with the CPU's names: "muon.NAME.momentum", "adamw.NAME.step|m|v",
  /// "average.ema.count", "average.ema", "average.swa.count", "average.swa.sum", "sensitivity.sums".
  std::vector<DeviceStateBuffer> state() const;
  std::vector<SavedState> save();  ///< waits
  /// Overwrites one piece, in stream order; returns when done. Check error for an unknown name or another
  /// size.
  void restore(std::string_view name, std::span<const std::byte> bytes);

  const OptimizerConfig& config() const noexcept;
  std::size_t device_bytes() const noexcept;  ///< that it allocated
  std::vector<DeviceWork> work() const;       ///< of enqueue_zero_gradients and enqueue, not measured
  /// Runs each kind of work `repeats` times and times it. For benchmarks: it changes values and state.
  std::vector<DeviceWork> measure(int repeats);

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace fairway::optim
