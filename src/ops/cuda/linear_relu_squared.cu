#include "linear_relu_squared.cuh"

namespace fairway::ops::cuda {
namespace {

constexpr int groups = 2,
              stages = 8;  // the fastest of those that bench/cuda/linear_relu_squared_main.cu times

}  // namespace

cudaError_t linear_relu_squared_forward(const SquareShape& shape, const void* y, const void* w, void* h,
                                        void* act, cudaStream_t stream) {
  if (!h && !act) return cudaSuccess;
  return square::forward<groups, stages>(shape, y, w, h, act, stream);
}

cudaError_t linear_relu_squared_backward(const SquareShape& shape, const void* du, const void* w,
                                         const void* h, void* dh, bool add, cudaStream_t stream) {
  return square::backward<groups, stages>(shape, du, w, h, dh, add, stream);
}

}  // namespace fairway::ops::cuda
