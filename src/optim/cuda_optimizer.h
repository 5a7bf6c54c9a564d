#pragma once
#include "fairway/optim/optimizer.h"

namespace fairway::optim {

/// Throws bad input in builds without the CUDA backend.
std::unique_ptr<Optimizer> make_cuda_optimizer(const OptimizerConfig& config, tensor::View values,
                                               tensor::View gradients, ops::cuda::State& state);

}  // namespace fairway::optim
