#include "fairway/quant/hadamard.h"

#include <cmath>
#include <utility>

#include "fairway/base/error.h"

namespace fairway::quant {

void check_rotatable(std::string_view name, std::int64_t columns) {
  if (!is_power_of_two(columns))
    base::fail_input(
        "{}: quant.rotate = \"hadamard\" needs rows of a power of two, and these are {} wide; set it to "
        "\"none\"",
        name, columns);
}

void rotate_row(std::span<float> row) {
  const std::size_t n = row.size();
  for (std::size_t half = 1; half < n; half *= 2)
    for (std::size_t first = 0; first < n; first += 2 * half)
      for (std::size_t i = first; i < first + half; ++i) {
        const float a = row[i], b = row[i + half];
        row[i] = a + b, row[i + half] = a - b;
      }
  const auto scale = static_cast<float>(1 / std::sqrt(static_cast<double>(n)));
  for (float& v : row) v *= scale;
}

void rotate_rows(std::span<float> values, std::int64_t columns, base::ThreadPool& pool) {
  base::check(is_power_of_two(columns), "hadamard: rows of {}", columns);
  const auto c = static_cast<std::size_t>(columns);
  pool.run(std::ssize(values) / columns,
           [&](std::int64_t r) { rotate_row(values.subspan(static_cast<std::size_t>(r) * c, c)); });
}

void rotate_both(std::span<float> hessian, std::int64_t n, base::ThreadPool& pool) {
  // H is symmetric, so the rows of (H Q)^T are those of Q H.
  rotate_rows(hessian, n, pool);
  for (std::int64_t i = 0; i < n; ++i)
    for (std::int64_t j = 0; j < i; ++j)
      std::swap(hessian[static_cast<std::size_t>(i * n + j)], hessian[static_cast<std::size_t>(j * n + i)]);
  rotate_rows(hessian, n, pool);
}

}  // namespace fairway::quant
