#pragma once
// What the training optimiser and the adapter share: scheduled values going up, the norm and the flag coming
// back, and AdamW or SGD over ranges.

#include <array>
#include <string>
#include <vector>

#include "cuda/launch.h"
#include "cuda/support.h"
#include "fairway/ops/cuda_work.h"
#include "fairway/optim/average.h"
#include "fairway/optim/gradient.h"
#include "fairway/tensor/view.h"

namespace fairway::optim::cuda {

/// Cuts entries of the given sizes into pieces.
std::vector<Piece> pieces_of(std::span<const std::int64_t> sizes);

/// A range with its rule; places in memory are filled in by RangeStep.
struct RangeSpec {
  FlatRange range;
  UpdateRange rule = {};
};

class RangeStep {
 public:
  static constexpr int slots = 4;

  /// `trained` enters the norm, `ranges` are updated here.
  RangeStep(ops::cuda::State& state, tensor::View values, tensor::View gradients,
            const std::vector<FlatRange>& trained, const std::vector<RangeSpec>& ranges, double max_norm);

  ~RangeStep();  ///< waits: copies may still read or write its page-locked memory
  RangeStep(const RangeStep&) = delete;
  RangeStep& operator=(const RangeStep&) = delete;

  void send(const Scheduled& scheduled);
  void enqueue_norm(std::int64_t* ema_count = nullptr);
  void enqueue_update();
  void enqueue_flag(bool bad);
  void enqueue_reset();
  void enqueue_report(int slot);
  GradientNorm report(int slot);

  const Scheduled* scheduled() const { return data_of<const Scheduled>(scheduled_); }
  const StepState* step_state() const { return data_of<const StepState>(step_state_); }
  /// PREFIX + "NAME.step|m|v", of sgd PREFIX + "NAME.momentum".
  std::vector<DeviceStateBuffer> state(const std::string& prefix) const;
  std::size_t device_bytes() const;
  std::int64_t norm_elements() const { return norm_elements_; }
  std::int64_t update_elements() const { return update_elements_; }

 private:
  struct SendSlot {
    ops::cuda::PinnedBuffer value{sizeof(Scheduled)};
    ops::cuda::Event sent;
  };
  struct ReportSlot {
    ops::cuda::PinnedBuffer value{sizeof(StepState)};
    ops::cuda::Event arrived;
  };
  ReportSlot& report_slot(int slot);
  void place_ranges(const std::vector<RangeSpec>& ranges);

  ops::cuda::State* state_;
  float* values_;
  const float* gradients_;
  double max_norm_;
  std::vector<RangeSpec> ranges_;
  std::int64_t norm_elements_ = 0, update_elements_ = 0;
  std::int64_t norm_count_ = 0, update_count_ = 0;  // pieces
  tensor::Buffer scheduled_, step_state_;
  tensor::Buffer norm_pieces_, norm_ranges_, partial_;
  tensor::Buffer update_pieces_, update_ranges_, scalars_, counters_, first_, second_;
  std::array<SendSlot, slots> sends_;
  std::array<ReportSlot, slots> reports_;
  int next_send_ = 0;
};

}  // namespace fairway::optim::cuda
