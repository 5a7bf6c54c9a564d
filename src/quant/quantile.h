#pragma once
#include <cstdint>

namespace fairway::quant {

/// Where a quantile lies among n sorted values: between `below` and `above`, `weight` of the way.
struct QuantilePosition {
  std::int64_t below, above;
  float weight;
};
/// In fp32, as torch.quantile computes it. n >= 1, 0 <= p <= 1.
QuantilePosition quantile_position(float p, std::int64_t n);
/// torch.lerp: from whichever end is nearer, so that the ends are exact.
float interpolate(float below, float above, float weight);

}  // namespace fairway::quant
