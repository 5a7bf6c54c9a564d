// Builds without the CUDA backend.
#include "cuda_optimizer.h"
#include "fairway/base/error.h"

namespace fairway::optim {

std::unique_ptr<Optimizer> make_cuda_optimizer(const OptimizerConfig&, tensor::View, tensor::View,
                                               ops::cuda::State&) {
  base::fail_input("updates on a GPU: this build has no CUDA backend; use --device cpu");
}

}  // namespace fairway::optim
