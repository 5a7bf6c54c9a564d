#pragma once
#include <cstdint>
#include <vector>

#include "fairway/optim/optimizer.h"

namespace fairway::optim {

/// The given parts of a flat buffer of `elements`, sorted, neighbours joined. Checks that they fit and do not
/// overlap.
std::vector<FlatRange> joined_ranges(std::vector<FlatRange> ranges, std::int64_t elements);
/// The parts that train.
std::vector<FlatRange> trained_ranges(const ParameterMap& map, std::int64_t elements);

}  // namespace fairway::optim
