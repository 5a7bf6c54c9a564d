#pragma once
#include <cstdint>
#include <span>
#include <vector>

#include "fairway/base/thread_pool.h"
#include "fairway/optim/gradient.h"

namespace fairway::optim {

/// A step's gradient as the sum of its ranks' parts, each clipped on its own (OptimizerConfig::ranks), on the
/// CPU.
class RankSum {
 public:
  RankSum(int ranks, double max_norm, std::size_t elements)
      : ranks_(ranks), max_norm_(max_norm), sum_(elements) {}

  std::span<const float> sum() const { return sum_; }
  void clear();
  /// Adds a rank's part, whose norm is `part`, and clears it.
  void add(std::span<float> gradients, const GradientNorm& part, base::ThreadPool& pool);
  GradientNorm norm() const;  ///< the mean of the ranks' own norms

 private:
  int ranks_;
  double max_norm_, norms_ = 0;
  bool finite_ = true;
  std::vector<float> sum_;
};

}  // namespace fairway::optim
