#pragma once
#include <span>
#include <vector>

#include "fairway/base/thread_pool.h"

namespace fairway::optim {

struct GradientNorm {
  double norm = 0.0;   ///< Euclidean, over everything
  bool finite = true;  ///< false: there is a NaN or an infinity; `norm` says which
};

/// The norm over several flat buffers: squares summed in fp64 in fixed blocks, blocks in order, so that
/// neither threads nor the instruction set change a bit.
class GradientNormer {
 public:
  explicit GradientNormer(std::vector<std::span<const float>> gradients);
  GradientNorm operator()(base::ThreadPool& pool);

 private:
  std::vector<std::span<const float>> blocks_;
  std::vector<double> sums_;
};

/// min(1, max_norm / (norm + 1e-6)) (docs/spec/training.md section 5); 1 when max_norm is 0.
float clip_factor(double norm, double max_norm);

}  // namespace fairway::optim
