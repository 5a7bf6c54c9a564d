#pragma once
// Which scale multiplies the rows of which projection, where scales are folded into the working copy.

#include <string>
#include <string_view>

namespace fairway::model {

/// The scale that folds into a matrix; "" for none.
inline std::string folded_scale(std::string_view matrix) {
  for (const std::string_view part : {"attn", "mlp"}) {
    const auto tail = "." + std::string(part) + ".proj.weight";
    if (matrix.ends_with(tail))
      return std::string(matrix.substr(0, matrix.size() - tail.size())) + "." + std::string(part) + "_scale";
  }
  return {};
}

}  // namespace fairway::model
