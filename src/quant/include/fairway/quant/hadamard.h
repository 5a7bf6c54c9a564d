#pragma once
// Walsh and Hadamard's rotation of columns (docs/spec/caseops_quantization.md section 4): Q_c in Sylvester's
// order over sqrt(c), symmetric and its own inverse. Rounding errors and outliers spread over all columns.

#include <cstdint>
#include <span>
#include <string_view>

#include "fairway/base/thread_pool.h"

namespace fairway::quant {

constexpr bool is_power_of_two(std::int64_t n) { return n > 0 && (n & (n - 1)) == 0; }
/// An input error that names the tensor where its width is no power of two.
void check_rotatable(std::string_view name, std::int64_t columns);

/// Each row of `values` [rows, columns] times Q. Sums in the order of the butterflies; `columns` is a power
/// of two.
void rotate_rows(std::span<float> values, std::int64_t columns, base::ThreadPool& pool);
/// One row, on this thread.
void rotate_row(std::span<float> row);
/// Q H Q^T in place, H [n, n] symmetric.
void rotate_both(std::span<float> hessian, std::int64_t n, base::ThreadPool& pool);

}  // namespace fairway::quant
