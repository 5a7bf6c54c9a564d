#include "fairway/ops/operator.h"

namespace fairway::ops {

Cost Operator::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost;
  for (const Meta& m : in) cost.bytes += static_cast<double>(m.bytes());
  for (const Meta& m : out) cost.bytes += static_cast<double>(m.bytes());
  return cost;
}

std::size_t Operator::workspace_bytes(std::span<const Meta>, std::span<const Meta>) const { return 0; }

}  // namespace fairway::ops
