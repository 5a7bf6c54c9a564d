#pragma once
// Everything a step does once the gradients are there, for training and for test-time training, on the CPU
// and on a GPU: norm, clip, the update rules of groups of parameters, averages of the weights.

#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fairway/base/range.h"
#include "fairway/base/thread_pool.h"
#include "fairway/ops/cuda.h"
#include "fairway/optim/gradient.h"
#include "fairway/optim/state.h"
#include "fairway/optim/step_values.h"
#include "fairway/optim/update_rule.h"
#include "fairway/tensor/view.h"

namespace fairway::optim {

/// A parameter, or neighbouring ones with equal rates, as a part of the flat buffers.
struct ParamRange {
  std::string name;
  base::Range range;
  std::int64_t rows = 0, columns = 0;  ///< of a matrix, row-major; 0: seen as a flat array
  double lr_factor = 1.0;
};

/// Parameters with one rule, one rate and one storage type.
struct ParamGroup {
  UpdateRule rule;
  int rate = 0;  ///< index into StepValues::lr
  /// Values and moments are float arrays; bf16 rounds them on each store, which gives the numbers of
  /// parameters kept in bfloat16 (arithmetic is fp32 either way). Values have to be rounded at the start.
  tensor::DType storage = tensor::DType::f32;
  std::vector<ParamRange> parameters = {};
};

/// What is averaged over steps (average.h). The EMA starts from the values at construction; SWA sums and
/// divides groups that are stored in bf16 in bf16.
struct Averages {
  std::optional<double> ema_decay = {};
  tensor::DType ema_storage = tensor::DType::f32;
  bool swa = false;
  bool squares = false;  ///< of the matrices' gradients
};
enum class Average { ema, swa };

struct OptimizerConfig {
  /// Must not overlap; what is in none is frozen and does not enter the norm.
  std::vector<ParamGroup> groups;
  double grad_clip = 0.0;  ///< largest norm of all gradients together; 0: none
  /// 0: `grad_clip` limits the step's gradient. Otherwise that is the sum of so many parts, one for each rank
  /// of data-parallel training, and each rank's own gradient, `ranks` times its part, is limited before the
  /// sum (docs/spec/caseops_training.md section 4.1). Takes a second array of gradients.
  int ranks = 0;
  /// The norm on the CPU is summed up range by range, as test-time training does; false: over all trained
  /// neighbours at once, as training does. Decides its last bits alone.
  bool norm_by_range = false;
  Averages averages = {};
};

/// One kind of work of a step: what it moves and computes by count, and (measured) how long it took.
struct Work {
  std::string name;
  double bytes = 0, flops = 0;
  double milliseconds = 0;
};

/// Use, for each step:
///   prepare(values)
///   gradients: zeroed, then added to by the model's backward passes
///   enqueue_add_rank()      with OptimizerConfig::ranks, after the backward passes of each rank
///   enqueue()               on a GPU also the launch of a recording of it
///   enqueue_swa_add()       when the caller's rule says so
///   enqueue_squares()       likewise
///   enqueue_report(), report() once for each, up to `max_reports` steps later
/// On a GPU everything runs on the state's stream in that order and nothing but the functions that return
/// data waits; on the CPU each call does its work at once. No call of a step allocates.
///
/// A NaN or an infinity among the gradients sets a flag. While it is set, values, moments, averages and
/// counters stay as they are; enqueue_clear_flag() clears it.
///
/// Numbers: element-wise rules and averages do the same operations in the same order everywhere, the norm
/// adds in an order of each device's own; results depend neither on threads nor on the instruction set. On a
/// GPU Muon's Newton-Schulz iteration takes whole products of batches of equal shapes: in f32 within about
/// 1e-5 of the CPU's; in bf16 each of the three products of an iteration is rounded once
/// (docs/spec/training.md section 4 leaves that open), where the CPU rounds its parts like the original. The
/// same gradients give the same bytes on the same GPU type and library version: no atomics, every sum in an
/// order that the layout alone decides. Not thread-safe.
class Optimizer {
 public:
  static constexpr int max_reports = 4;

  Optimizer() = default;
  Optimizer(const Optimizer&) = delete;
  Optimizer& operator=(const Optimizer&) = delete;
  virtual ~Optimizer() = default;

  /// Sets the values of the steps to come. On a GPU it queues their upload, up to three steps ahead.
  virtual void prepare(const StepValues& values) = 0;
  /// Norm, clip and flag, every rule, the EMA. On a GPU it may be recorded, as may the six below.
  virtual void enqueue() = 0;
  virtual void enqueue_zero_gradients() = 0;
  /// Clips the gradients as those of one rank, adds them to the step's and clears them. What the step's
  /// report gives is the mean of the ranks' norms before that.
  virtual void enqueue_add_rank() = 0;
  virtual void enqueue_swa_add() = 0;  ///< one more snapshot; with Averages::swa
  /// Adds each matrix's mean squared gradient (not clipped, but by ranks) to those of the steps before; the
  /// gradients must still be the step's. With Averages::squares.
  virtual void enqueue_squares() = 0;
  virtual void enqueue_clear_flag() = 0;
  virtual void enqueue_reset() = 0;  ///< moments and counters to zero: as new, but for averages
  /// Keeps the last step's norm and the flag for report().
  virtual void enqueue_report() = 0;
  /// Of the oldest report not yet read. `finite` is false from the first bad step on until the flag is
  /// cleared.
  virtual GradientNorm report() = 0;
  /// A whole step, from prepare to its report.
  GradientNorm step(const StepValues& values);

  // The following wait.

  virtual std::int64_t average_count(Average average) = 0;  ///< updates of the EMA, snapshots of SWA
  /// The average of all values, `out` on the host; of SWA when its count is above 0.
  virtual void read_average(Average average, std::span<float> out) = 0;
  /// Each matrix's squared gradient, mean over elements and steps; empty before the first.
  virtual std::map<std::string, double> mean_squares() = 0;

  /// The whole state, valid until the next call of any other function: "RULE.NAME.step|m|v",
  /// "RULE.NAME.momentum", "average.ema.count", "average.ema", "average.swa.count", "average.swa.sum",
  /// "sensitivity.sums".
  virtual std::vector<SavedState> save() = 0;
  /// Takes back what save gave; check error when `source` gives another size.
  virtual void restore(const StateSource& source) = 0;

  /// Memory of the state, of the ranks' sum and, on a GPU, of the workspaces.
  virtual std::size_t bytes() = 0;
  /// Of enqueue_zero_gradients and enqueue, not measured; counted on a GPU only.
  virtual std::vector<Work> work() { return {}; }
  /// Runs each kind of work `repeats` times and times it. For benchmarks: it changes values and state.
  virtual std::vector<Work> measure(int /*repeats*/) { return {}; }
};

/// `values` and `gradients`: flat f32 arrays of one layout, in the memory of `cuda`'s GPU, or, where that is
/// null, on the host, where `pool` does the work. All of these must outlive the optimiser. Allocates
/// everything; on a GPU it runs each kernel once with the flag set and waits, so that enqueue may be recorded
/// at once. Throws bad input when the device cannot be used, check errors for groups that do not fit.
std::unique_ptr<Optimizer> make_optimizer(const OptimizerConfig& config, tensor::View values,
                                          tensor::View gradients, base::ThreadPool* pool,
                                          ops::cuda::State* cuda);

}  // namespace fairway::optim
