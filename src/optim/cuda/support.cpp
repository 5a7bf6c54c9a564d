#include "cuda/support.h"

#include "fairway/base/error.h"

namespace fairway::optim::cuda {

void launched(std::string_view what) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess)
    base::fail("{}: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status));
}

}  // namespace fairway::optim::cuda
