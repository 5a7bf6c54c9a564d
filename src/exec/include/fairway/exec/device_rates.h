#pragma once
// What a device does at best, and the least time that work takes there.

#include "fairway/exec/engine.h"
#include "fairway/graph/graph.h"

namespace fairway::exec {

/// Rates of a large product and of a large copy (bytes read plus written).
struct DeviceRates {
  double flops_per_second = 0, bytes_per_second = 0;
  /// The least time that so much work takes: of its products or of its bytes, whatever is longer.
  double roofline_seconds(const ops::Cost& cost) const;
  /// The same for every step of a graph, added up.
  double roofline_seconds(const graph::Graph& graph) const;
};

/// Measures them; on a GPU in some 30 ms, and with 1 GiB of memory meanwhile.
DeviceRates measure_rates(tensor::DType products, const Engine& engine);

}  // namespace fairway::exec
