#pragma once
// Hessians of the inputs of every matrix that multiplies, for quantisers that correct errors by them
// (docs/spec/caseops_quantization.md section 2).

#include "fairway/exec/model_runner.h"

#include <functional>
#include <map>
#include <string>
#include <vector>

namespace fairway::exec {

/// By matrix: the mean over batches of x^T x, row-major [c, c], f32. Matrices of one product (q, k, v) have
/// the same.
using Hessians = std::map<std::string, std::vector<float>>;

/// Runs `batches` batches of `rows` windows through a program of its own. `fill(i, tokens)` writes the i-th.
/// The runner must not have been asked for another program behind its allocate().
Hessians collect_hessians(ModelRunner& runner, int rows, int batches,
                          const std::function<void(int, std::span<std::int32_t>)>& fill);

}  // namespace fairway::exec
