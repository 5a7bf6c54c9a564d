#pragma once
// What a device does at best, and the least time that work takes there.

#include "fairway/graph/graph.h"
#include "fairway/pipeline/engine.h"

namespace fairway::pipeline {

/// Rates of a large product and of a large copy (bytes read plus written).
struct MachineRates {
  double flops_per_second = 0, bytes_per_second = 0;
  /// The least time that so much work takes: of its products or of its bytes, whatever is longer.
  double floor(const ops::Cost& cost) const;
  /// The same for every step of a graph, added up.
  double floor(const graph::Graph& graph) const;
};

/// Measures them; on a GPU in some 30 ms, and with 1 GiB of memory meanwhile.
MachineRates measure_machine(tensor::DType products, Engine& engine);

}  // namespace fairway::pipeline
