#include "chunks.h"

#include <algorithm>

namespace fairway::ops {

Chunks chunks_of(std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t most = 64, least_elements = 8192;
  const auto ceil_div = [](std::int64_t a, std::int64_t b) { return (a + b - 1) / b; };
  const auto each = std::max(
      {ceil_div(rows, most), ceil_div(least_elements, std::max<std::int64_t>(columns, 1)), std::int64_t{1}});
  return {each, ceil_div(rows, each)};
}

}  // namespace fairway::ops
