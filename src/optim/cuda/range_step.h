#pragma once
// Scheduled values going up, the norm and the flag coming back, and the element-wise rules over ranges.

#include <array>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "cuda/rank_sum.h"
#include "cuda/support.h"
#include "fairway/ops/cuda_work.h"
#include "fairway/optim/optimizer.h"
#include "shared.h"

namespace fairway::optim::cuda {

/// Cuts entries of the given sizes into pieces.
std::vector<Piece> pieces_of(std::span<const std::int64_t> sizes);

class RangeStep {
 public:
  /// All groups enter the norm; those of element-wise rules are updated here.
  RangeStep(ops::cuda::State& state, tensor::View values, tensor::View gradients,
            const OptimizerConfig& config);
  ~RangeStep();  ///< waits: copies may still read or write its page-locked memory
  RangeStep(const RangeStep&) = delete;
  RangeStep& operator=(const RangeStep&) = delete;

  void send(const StepValues& values);
  /// `ranks` (may be null): the norm is theirs.
  void enqueue_norm(std::int64_t* ema_count, const RankSum* ranks);
  void enqueue_update();
  void enqueue_flag(bool bad);
  void enqueue_reset();
  void enqueue_report();
  GradientNorm report();

  const StepValues* scheduled() const { return data_of<const StepValues>(scheduled_); }
  const StepState* step_state() const { return data_of<const StepState>(step_state_); }
  std::vector<StateBuffer> state() const;
  std::size_t device_bytes() const;
  std::int64_t norm_elements() const { return norm_elements_; }
  std::int64_t update_bytes() const { return update_bytes_; }  ///< that enqueue_update moves

 private:
  struct SendSlot {
    ops::cuda::PinnedBuffer value{sizeof(StepValues)};
    ops::cuda::Event sent;
  };
  struct ReportSlot {
    ops::cuda::PinnedBuffer value{sizeof(StepState)};
    ops::cuda::Event arrived;
  };
  /// A parameter under an element-wise rule.
  struct Placed {
    std::string prefix;  ///< "RULE.NAME."
    std::int64_t elements;
    UpdateRange entry;
  };
  void place_ranges(const std::vector<ParamGroup>& groups);

  ops::cuda::State* state_;
  float* values_;
  const float* gradients_;
  double max_norm_;
  std::vector<Placed> ranges_;
  std::int64_t norm_elements_ = 0, update_bytes_ = 0;
  std::int64_t norm_count_ = 0, update_count_ = 0;  // pieces
  tensor::Buffer scheduled_, step_state_;
  tensor::Buffer norm_pieces_, norm_begins_, partial_;
  tensor::Buffer update_pieces_, update_ranges_, scalars_, counters_, first_, second_;
  std::array<SendSlot, Optimizer::max_reports> sends_;
  std::array<ReportSlot, Optimizer::max_reports> reports_;
  std::size_t next_send_ = 0;
  ReportSlots report_slots_;
};

}  // namespace fairway::optim::cuda
