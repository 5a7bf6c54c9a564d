#include "quantile.h"

#include <algorithm>
#include <cmath>

#include "fairway/base/error.h"
#include "fairway/quant/quantize.h"

namespace fairway::quant {

QuantilePosition quantile_position(float p, std::int64_t n) {
  const float position = p * static_cast<float>(n - 1);
  const auto last = n - 1;
  const auto below = std::min(static_cast<std::int64_t>(std::floor(position)), last);
  const auto above = std::min(static_cast<std::int64_t>(std::ceil(position)), last);
  return {below, above, position - static_cast<float>(below)};
}

float interpolate(float below, float above, float weight) {
  const float difference = above - below;
  return weight < 0.5f ? below + weight * difference : above - difference * (1.0f - weight);
}

float quantile(std::span<float> values, float p) {
  base::check(!values.empty() && p >= 0.0f && p <= 1.0f, "quantile {} of {} values", p, values.size());
  const auto at = quantile_position(p, static_cast<std::int64_t>(values.size()));
  const auto below = values.begin() + at.below;
  std::nth_element(values.begin(), below, values.end());
  if (at.above == at.below) return *below;
  return interpolate(*below, *std::min_element(below + 1, values.end()), at.weight);
}

}  // namespace fairway::quant
