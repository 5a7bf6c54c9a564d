#include "linear_square.cuh"

namespace fairway::ops::cuda {
namespace {

template <bool Backward>
cudaError_t launch(const SquareShape& shape, const void* a, const void* weight, const void* h, void* out,
                   bool add, cudaStream_t stream) {
  if (shape.n / square::kColumns % 2 == 0)
    return square::launch<Backward, 3, 6, 2>(shape, a, weight, h, out, add, stream);
  return square::launch<Backward, 3, 6, 1>(shape, a, weight, h, out, add, stream);
}

}  // namespace

cudaError_t linear_square_forward(const SquareShape& shape, const void* y, const void* w, void* h, void* act,
                                  cudaStream_t stream) {
  if (!h && !act) return cudaSuccess;
  return launch<false>(shape, y, w, h, act, false, stream);
}

cudaError_t linear_square_backward(const SquareShape& shape, const void* du, const void* w, const void* h,
                                   void* dh, bool add, cudaStream_t stream) {
  return launch<true>(shape, du, w, h, dh, add, stream);
}

}  // namespace fairway::ops::cuda
