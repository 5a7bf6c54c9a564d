#pragma once
#include <cstdint>

namespace fairway::optim {

/// What a step does to the EMA after its update: nothing, e <- theta, or the average.
enum class EmaStep : std::int32_t { none, start, update };

/// The scheduled values of one step; the caller computes them (schedule.h).
struct StepValues {
  static constexpr int rates = 4;
  double lr[rates] = {};   ///< learning rates; ParamGroup::rate chooses one
  double momentum = 0;     ///< Muon's
  double decay_scale = 1;  ///< of the weight decay of rules that taper it
  EmaStep ema = EmaStep::none;
};

}  // namespace fairway::optim
