#pragma once
// Workspace of the gather gradient on a GPU, from the shape alone.

#include "row_splits.h"

namespace fairway::ops {

/// Positions are grouped by table row with a stable counting sort: chunks of positions are counted apart, so
/// that each finds its places alone. The sorted list is then summed in segments; a row that crosses the end
/// of a segment leaves partial sums, a head and a tail for each segment. Offsets in 4-byte words, in this
/// order: counts [chunks, V], first [V + 1], rank [T], order [T], sums [segments, 2, D].
struct GatherLayout {
  static constexpr std::int64_t chunk = 1024, segment = 64;
  std::int64_t chunks = 0, segments = 0;
  std::int64_t first = 0, rank = 0, order = 0, sums = 0, end = 0;
};

constexpr GatherLayout layout_gather_gradient(std::int64_t table_rows, std::int64_t positions,
                                              std::int64_t columns) {
  GatherLayout layout;
  layout.chunks = ceil_div(positions, GatherLayout::chunk);
  layout.segments = ceil_div(positions, GatherLayout::segment);
  layout.first = layout.chunks * table_rows;
  layout.rank = layout.first + table_rows + 1;
  layout.order = layout.rank + positions;
  layout.sums = ceil_div(layout.order + positions, 4) * 4;  // sums start on 16 bytes
  layout.end = layout.sums + layout.segments * 2 * columns;
  return layout;
}

}  // namespace fairway::ops
