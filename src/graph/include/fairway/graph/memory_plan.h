#pragma once
#include "fairway/graph/graph.h"

namespace fairway::graph {

/// Offsets of all scratch values, inputs and workspaces of one graph in an arena that programs share.
struct MemoryPlan {
  std::vector<std::int64_t> offset;            ///< per value root; -1 when it lives elsewhere
  std::vector<std::int64_t> workspace_offset;  ///< per step; -1 without workspace
  std::vector<std::size_t> workspace_bytes;    ///< per step
  std::size_t arena_bytes = 0;
  std::size_t live_peak_bytes = 0;  ///< largest sum of live values: the lower bound of any placement
  int in_place = 0;                 ///< outputs that took over an input's memory
};

/// Liveness, in-place outputs where operators allow it, then first fit by decreasing size.
MemoryPlan plan_memory(const Graph& graph);

}  // namespace fairway::graph
