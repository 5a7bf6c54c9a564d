#pragma once
#include <string>
#include <vector>

#include "fairway/base/thread_pool.h"
#include "fairway/optim/optimizer.h"
#include "rules/table.h"

namespace fairway::optim {

/// A range under an element-wise rule on the CPU: its moments and its count of steps.
class RangeUpdate {
 public:
  /// `values` and `gradients` are the whole flat buffers.
  RangeUpdate(const ParamGroup& group, const ParamRange& parameter, std::span<float> values,
              std::span<const float> gradients);

  void step(const StepValues& values, float clip, base::ThreadPool& pool);
  void reset();
  std::vector<StateBuffer> state();

 private:
  UpdateRule rule_;
  rules::Rounding rounding_;
  int rate_;
  ParamRange parameter_;
  std::span<float> values_;
  std::span<const float> gradients_;
  std::int64_t steps_ = 0;
  std::vector<float> moments_[2];
};

}  // namespace fairway::optim
