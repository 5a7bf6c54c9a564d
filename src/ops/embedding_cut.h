#pragma once
// Workspace of the gather gradient on a GPU, from the shape alone.

#include "chunks.h"

namespace fairway::ops {

/// Positions are grouped by table row with a stable counting sort: chunks of positions are counted apart, so
/// that each finds its places alone. The sorted list is then summed in segments; a row that crosses the end
/// of a segment leaves partial sums, a head and a tail for each segment. Offsets in 4-byte words, in this
/// order: counts [chunks, V], first [V + 1], rank [T], order [T], sums [segments, 2, D].
struct GatherGradientCut {
  static constexpr std::int64_t chunk = 1024, segment = 64;
  std::int64_t chunks = 0, segments = 0;
  std::int64_t first = 0, rank = 0, order = 0, sums = 0, end = 0;
};

constexpr GatherGradientCut cut_gather_gradient(std::int64_t table_rows, std::int64_t positions,
                                                std::int64_t columns) {
  GatherGradientCut cut;
  cut.chunks = ceil_div(positions, GatherGradientCut::chunk);
  cut.segments = ceil_div(positions, GatherGradientCut::segment);
  cut.first = cut.chunks * table_rows;
  cut.rank = cut.first + table_rows + 1;
  cut.order = cut.rank + positions;
  cut.sums = ceil_div(cut.order + positions, 4) * 4;  // sums start on 16 bytes
  cut.end = cut.sums + cut.segments * 2 * columns;
  return cut;
}

}  // namespace fairway::ops
