#pragma once
// What GPTQ needs of a Hessian: the order of its columns and how much of a column's error each later one
// makes up for.

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "fairway/base/thread_pool.h"

namespace fairway::quant {

struct Factor {
  std::vector<std::int64_t> order;  ///< columns by descending diagonal
  std::vector<bool> dead;           ///< by column: no input reaches it
  /// [c, c], below the diagonal: of what is lost on the j-th column of the order, the part that the t-th
  /// makes up for, at [t][j].
  std::vector<float> feedback;
};

/// Where it stands on its way from a tensor's Hessian.
struct FactorOptions {
  double damping = 0.01;  ///< of the mean of the diagonal, added to it
  bool rotated = false;   ///< the Hessian is taken in Hadamard's basis first
};

/// Factorises Hessians and keeps the last one: matrices that multiply the same (q, k, v) follow each other.
class Factors {
 public:
  /// Of a row-major [n, n] Hessian. An input error that names the tensor when it is not positive definite.
  const Factor& of(std::string_view name, std::span<const float> hessian, std::int64_t n,
                   const FactorOptions& options, base::ThreadPool& pool);
  int made() const noexcept { return made_; }  ///< factorisations so far

 private:
  Factor last_;
  std::uint64_t hash_ = 0;
  std::int64_t n_ = -1;
  FactorOptions options_;
  int made_ = 0;
};

}  // namespace fairway::quant
