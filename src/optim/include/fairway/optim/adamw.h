#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fairway/base/thread_pool.h"
#include "fairway/optim/state.h"

namespace fairway::optim {

struct AdamWConfig {
  double beta1 = 0.9;
  double beta2 = 0.95;
  double eps = 1e-8;
  double weight_decay = 0.04;
  bool decoupled = true;  ///< false: plain Adam, weight_decay is added to the gradient instead
  Storage storage = Storage::f32;
};

/// AdamW over one flat group (spec/training.md section 3). With k counted from 1 and g after clipping:
///   p <- p (1 - lr wd);  m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;
///   p <- p - lr (m / (1 - b1^k)) / (sqrt(v / (1 - b2^k)) + eps).
/// Element-wise in fp32: the result depends neither on threads nor on the instruction set.
/// Source: Loshchilov and Hutter, "Decoupled Weight Decay Regularization", ICLR 2019.
class AdamW {
 public:
  AdamW(const AdamWConfig& config, std::int64_t elements);

  /// One update of `values` by `gradient * gradient_scale`. Both have `elements()` entries. Allocates
  /// nothing.
  void step(std::span<float> values, std::span<const float> gradient, double lr, float gradient_scale,
            base::ThreadPool& pool);

  std::int64_t elements() const noexcept { return static_cast<std::int64_t>(first_.size()); }
  std::int64_t steps_taken() const noexcept { return steps_; }
  const AdamWConfig& config() const noexcept { return config_; }
  /// prefix + "step" (int64), "m", "v" (float each).
  std::vector<StateBuffer> state(const std::string& prefix);

 private:
  AdamWConfig config_;
  std::int64_t steps_ = 0;
  std::vector<float> first_, second_;
};

}  // namespace fairway::optim
