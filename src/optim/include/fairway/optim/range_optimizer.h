#pragma once
// The update of test-time training: one rule over chosen parts of the parameters, each with its own factor on
// the learning rate; what is in no part is frozen.

#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "fairway/base/thread_pool.h"
#include "fairway/optim/gradient.h"
#include "fairway/optim/state.h"

namespace fairway::optim {

enum class RangeRule {
  adam,   ///< weight decay is added to the gradient
  adamw,  ///< weight decay is decoupled; the same as adam when it is 0
  sgd,    ///< with momentum, see sgd.h
};

struct RangeOptimizerConfig {
  RangeRule rule = RangeRule::adamw;
  double beta1 = 0.9, beta2 = 0.999, eps = 1e-8, weight_decay = 0.0;
  double momentum = 0.9;   ///< of sgd
  double grad_clip = 0.0;  ///< largest norm over all ranges together; 0: none
};

/// Elements [begin, end) of the flat buffers.
struct OptimizedRange {
  std::string name;
  std::int64_t begin = 0, end = 0;
  double lr_factor = 1.0;
  /// bf16: the published systems' tables, rounded after every elementary operation (spec/ttt.md section 2).
  Storage storage = Storage::f32;
};

/// Owns the state of one optimiser. `values`, `gradients` and the pool are the caller's and must outlive it.
/// Steps allocate nothing; results do not depend on threads.
class RangeOptimizer {
 public:
  RangeOptimizer(const RangeOptimizerConfig& config, const std::vector<OptimizedRange>& ranges,
                 std::span<float> values, std::span<const float> gradients, base::ThreadPool& pool);
  ~RangeOptimizer();
  RangeOptimizer(RangeOptimizer&&) noexcept;
  RangeOptimizer& operator=(RangeOptimizer&&) = delete;

  /// One step at learning rate lr (times each range's factor). With a NaN or infinity among the gradients
  /// nothing changes and the returned norm says so.
  GradientNorm step(double lr);
  void reset();                      ///< moments and counters to zero: a new optimiser, as for a new pass
  std::vector<StateBuffer> state();  ///< "NAME.step|m|v" or "NAME.momentum"

 private:
  struct Parts;
  std::unique_ptr<Parts> parts_;
};

}  // namespace fairway::optim
