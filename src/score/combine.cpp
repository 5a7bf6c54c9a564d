#include "fairway/score/combine.h"

#include <algorithm>
#include <cmath>

#include "fairway/base/error.h"

namespace fairway::score {
namespace {

float mixed(std::span<const std::vector<float>> nll, std::span<const double> weights, std::size_t i) {
  double best = nll[0][i];
  for (const auto& trajectory : nll) best = std::min(best, static_cast<double>(trajectory[i]));
  double sum = 0;
  for (std::size_t k = 0; k < nll.size(); ++k) sum += weights[k] * std::exp(best - nll[k][i]);
  return static_cast<float>(best - std::log(sum));
}

float smallest(std::span<const std::vector<float>> nll, std::size_t i) {
  float best = nll[0][i];
  for (const auto& trajectory : nll) best = std::min(best, trajectory[i]);
  return best;
}

}  // namespace

void combine(Combination combination, std::span<const std::vector<float>> nll,
             std::span<const double> weights, std::span<float> out) {
  base::check(!nll.empty(), "no trajectory to combine");
  for (const auto& trajectory : nll)
    base::check(trajectory.size() == out.size(), "{} scores for {} targets", trajectory.size(), out.size());
  if (combination == Combination::mixture)
    base::check(weights.size() == nll.size(), "{} weights for {} trajectories", weights.size(), nll.size());
  base::check(combination != Combination::single || nll.size() == 1, "{} trajectories and no combination",
              nll.size());
  for (std::size_t i = 0; i < out.size(); ++i) {
    if (combination == Combination::single) out[i] = nll[0][i];
    if (combination == Combination::mixture) out[i] = mixed(nll, weights, i);
    if (combination == Combination::minimum) out[i] = smallest(nll, i);
  }
}

}  // namespace fairway::score
