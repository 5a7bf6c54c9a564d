#pragma once
#include <cstdint>
#include <vector>

namespace fairway::quant {

/// Of a symmetric matrix.
struct Eigen {
  std::vector<double> values;   ///< [n], descending
  std::vector<double> vectors;  ///< [n, n], rows, in that order
};
/// Householder's tridiagonal form, then implicit QL. `matrix` [n, n] is used up.
Eigen eigen_symmetric(std::vector<double> matrix, std::int64_t n);

}  // namespace fairway::quant
