#include "row_splits.h"

#include <algorithm>

namespace fairway::ops {

RowSplits split_rows(std::int64_t rows, std::int64_t columns) {
  constexpr std::int64_t most = 64, least_elements = 8192;
  const auto each = std::max(
      {ceil_div(rows, most), ceil_div(least_elements, std::max<std::int64_t>(columns, 1)), std::int64_t{1}});
  return {rows, each, ceil_div(rows, each)};
}

RowSplits split_rows_on_device(std::int64_t rows, std::int64_t most) {
  constexpr std::int64_t least_rows = 8;  // a row for each warp of a block
  const auto each = std::max(ceil_div(rows, most), least_rows);
  return {rows, each, ceil_div(rows, each)};
}

}  // namespace fairway::ops
