#pragma once
// AWQ-lite (PR 1908; docs/spec/leaders.md section 8): the columns of the whole model that carry most of the
// products stand on integers up to 127, inside the same pass of GPTQ.

#include <span>
#include <vector>

#include "fairway/base/thread_pool.h"
#include "fairway/tensor/shape.h"

namespace fairway::quant {

struct AwqOptions {
  int groups = 0;             ///< so many of the model; 0: none
  std::int64_t columns = 64;  ///< consecutive ones of a group
};

/// Of each whole group of consecutive columns, the sum of r_j w_j: r_j the root mean square of what column j
/// multiplies (root of the Hessian's diagonal, where the Hessian is a mean over input rows), w_j the mean
/// over rows of |W_ij|. `values` [rows, columns], `hessian` [columns, columns]. Columns behind the last whole
/// group have no score.
std::vector<double> group_scores(std::span<const float> values, std::int64_t columns,
                                 std::span<const float> hessian, std::int64_t group);

/// Which groups are the `count` best of all tensors: by tensor, the first columns, ascending. Ties go to the
/// earlier tensor, then to the earlier group.
std::vector<std::vector<std::int64_t>> best_groups(std::span<const std::vector<double>> scores,
                                                   const AwqOptions& options);

}  // namespace fairway::quant
