#pragma once
// Cholesky's factorisation by tiles, on all threads.

#include <cstdint>
#include <vector>

#include "fairway/base/thread_pool.h"

namespace fairway::quant {

/// A symmetric matrix [n, n] of doubles in rows of `stride` (n rounded up to whole tiles); what is beyond n
/// is the identity's.
struct TiledMatrix {
  explicit TiledMatrix(std::int64_t n);
  std::int64_t n, stride;
  std::vector<double> values;
  double* row(std::int64_t i) { return values.data() + i * stride; }
  const double* row(std::int64_t i) const { return values.data() + i * stride; }
};

/// L of H = L L^T in place of the lower triangle. The first column whose pivot is not positive, or -1. The
/// bytes of the result do not depend on the number of threads.
std::int64_t cholesky(TiledMatrix& h, base::ThreadPool& pool);

}  // namespace fairway::quant
