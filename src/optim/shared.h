#pragma once
// What optimisers on every device share.

#include <cstdint>
#include <vector>

#include "fairway/optim/optimizer.h"

namespace fairway::optim {

/// The trained parts of flat buffers of `elements`, sorted; `join`: neighbours are one. Checks groups: ranges
/// fit and do not overlap, Muon's are matrices in f32, rates exist.
std::vector<base::Range> trained_ranges(const std::vector<ParamGroup>& groups, std::int64_t elements,
                                        bool join);
/// The parameters that are matrices, in the order of the groups.
std::vector<ParamRange> matrices_of(const std::vector<ParamGroup>& groups);
/// What is stored in bf16, sorted, neighbours joined.
std::vector<base::Range> bf16_ranges(const std::vector<ParamGroup>& groups, std::int64_t elements);

/// What `mean_squares` returns of a sum for each matrix, then the number of steps.
std::map<std::string, double> mean_by_name(const std::vector<ParamRange>& matrices,
                                           std::span<const double> sums);

/// What `source` has for a piece: as many bytes, or none.
std::span<const std::byte> saved_bytes(const StateSource& source, const StateBuffer& piece);

/// Slots for reports, filled and read in turn.
class ReportSlots {
 public:
  int next();    ///< to fill
  int oldest();  ///< to read

 private:
  std::int64_t filled_ = 0, read_ = 0;
};

}  // namespace fairway::optim
