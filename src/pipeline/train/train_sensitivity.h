#pragma once
// How much the loss depends on each matrix, collected while training: what gradient-guided bits are allotted
// by (spec/ttt.md section 7).

#include "fairway/base/thread_pool.h"
#include "fairway/graph/parameters.h"
#include "fairway/optim/state.h"
#include "fairway/quant/policy.h"

#include <span>
#include <string>
#include <vector>

namespace fairway::pipeline {

/// Collected while the learning-rate scale is below this: the published value.
inline constexpr double kSensitivityBelow = 0.5;

class GradientSquares {
 public:
  explicit GradientSquares(const graph::ParameterLayout& layout);
  /// What optim::DeviceOptimizer collected.
  GradientSquares(const graph::ParameterLayout& layout, std::vector<double> sums);

  /// One step's gradients (flat, as `layout`; not clipped).
  void add(std::span<const float> gradients, base::ThreadPool& pool);
  /// Mean over steps and elements of the squared gradient, by matrix; empty before the first step.
  quant::Sensitivity mean() const;
  /// For checkpoints, same bytes wherever it was collected: a sum for each matrix in the layout's order, then
  /// the number of steps, as doubles.
  std::vector<optim::StateBuffer> state();

 private:
  struct Matrix {
    std::string name;
    std::size_t offset, elements;
  };
  std::vector<Matrix> matrices_;
  std::vector<double> sums_;  ///< of the steps' means; the last one counts steps
};

}  // namespace fairway::pipeline
