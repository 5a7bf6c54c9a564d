#pragma once
// One score for each target from several trajectories: models that saw the text in different ways.

#include <span>
#include <vector>

#include "fairway/base/enum_names.h"

namespace fairway::score {

enum class Combination {
  single,   ///< one trajectory
  mixture,  ///< -log sum_k w_k p_k with weights fixed beforehand: a distribution again
  minimum,  ///< the best trajectory for each target, chosen after it was seen: not a distribution
};
constexpr auto names_of(Combination) { return base::names<Combination>("single", "mixture", "minimum"); }

/// out[i] from nll[k][i] (nats). `weights` (of the mixture) are positive and sum to 1; computed in fp64.
/// minimum: sum_x max_k p_k(x) >= 1, so it under-counts by up to log(trajectories) per target.
void combine(Combination combination, std::span<const std::vector<float>> nll,
             std::span<const double> weights, std::span<float> out);

}  // namespace fairway::score
