#pragma once
#include <cstdint>
#include <string_view>
#include <vector>

#include "fairway/base/random.h"

namespace fairway::optim {

/// Standard normal numbers times `scale`, the same for the same purpose.
inline std::vector<float> normals(std::string_view purpose, std::size_t count, double scale = 1.0) {
  const base::Random random(20, purpose);
  std::vector<float> values(count);
  for (std::size_t i = 0; i < count; ++i) values[i] = static_cast<float>(scale * random.normal(i));
  return values;
}

}  // namespace fairway::optim
