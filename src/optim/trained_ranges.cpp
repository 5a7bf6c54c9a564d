#include "trained_ranges.h"

#include <algorithm>

#include "fairway/base/error.h"

namespace fairway::optim {

std::vector<FlatRange> joined_ranges(std::vector<FlatRange> ranges, std::int64_t elements) {
  std::sort(ranges.begin(), ranges.end(), [](const auto& a, const auto& b) { return a.begin < b.begin; });
  std::vector<FlatRange> joined;
  for (auto& range : ranges) {
    base::check(range.begin >= 0 && range.begin <= range.end && range.end <= elements,
                "optimizer: {} is [{}, {}) of {} parameters", range.name, range.begin, range.end, elements);
    if (!joined.empty() && range.begin <= joined.back().end) {
      base::check(range.begin == joined.back().end, "optimizer: {} overlaps another parameter", range.name);
      joined.back().end = range.end;
    } else {
      joined.push_back(std::move(range));
    }
  }
  return joined;
}

std::vector<FlatRange> trained_ranges(const ParameterMap& map, std::int64_t elements) {
  std::vector<FlatRange> ranges(map.tables);
  ranges.insert(ranges.end(), map.scalars.begin(), map.scalars.end());
  for (const auto& slot : map.matrices) {
    base::check(slot.rows > 0 && slot.columns > 0, "optimizer: {} is [{}, {}]", slot.name, slot.rows,
                slot.columns);
    ranges.push_back({slot.name, slot.offset, slot.offset + slot.rows * slot.columns});
  }
  return joined_ranges(std::move(ranges), elements);
}

}  // namespace fairway::optim
