#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "fairway/base/thread_pool.h"
#include "fairway/optim/state.h"

namespace fairway::optim {

/// SGD with momentum over one flat group (spec/ttt.md section 3): v <- momentum v + g;  p <- p - lr v. No
/// Nesterov, no dampening; the first step's v is g. With bf16 storage values, gradient and v are rounded
/// after every operation: v <- round(round(momentum v) + g),  p <- round(p - lr v).
class Sgd {
 public:
  Sgd(double momentum, Storage storage, std::int64_t elements);

  /// One update of `values` by `gradient * gradient_scale`. Allocates nothing.
  void step(std::span<float> values, std::span<const float> gradient, double lr, float gradient_scale,
            base::ThreadPool& pool);
  void reset();                                               ///< a new optimiser: v = 0
  std::vector<StateBuffer> state(const std::string& prefix);  ///< prefix + "momentum" (float)

 private:
  double momentum_;
  Storage storage_;
  std::vector<float> velocity_;
};

}  // namespace fairway::optim
