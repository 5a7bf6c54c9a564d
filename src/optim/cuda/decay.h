#pragma once
// Weight decay of Muon's matrices where it is scheduled (UpdateRule::tapered_decay).

#include <vector>

#include "cuda/launch.h"
#include "cuda/support.h"
#include "fairway/optim/optimizer.h"

namespace fairway::optim::cuda {

/// A pass of its own before Muon's step, which then does not decay: 8 bytes an element, 0.2 GB of 25 M, 80 us
/// at 2.6 TB/s. The numbers are the CPU's, as W (1 - lr wd) is rounded before the step there, too.
class TaperedDecay {
 public:
  /// Of the groups whose rule says so.
  TaperedDecay(ops::cuda::State& state, const std::vector<ParamGroup>& groups, tensor::View values,
               const StepValues* scheduled, const StepState* step_state);

  void enqueue();  ///< after the step's flag is known
  std::int64_t elements() const { return elements_; }
  std::size_t device_bytes() const { return bytes_of({&pieces_, &matrices_}); }

 private:
  ops::cuda::State* state_;
  float* values_;
  const StepValues* scheduled_;
  const StepState* step_state_;
  std::int64_t elements_ = 0, piece_count_ = 0;
  tensor::Buffer pieces_, matrices_;
};

}  // namespace fairway::optim::cuda
