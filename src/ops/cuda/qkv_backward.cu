#include "cuda/qkv_backward.cuh"

namespace fairway::ops::cuda {

// The fastest of those that bench/cuda/qkv_product_main.cu times.
void qkv_backward(const Target& t, Storage storage, const Qkv& a, const QkvGradients& g) {
  qkv_rows::backward<qkv_rows::Flow<3, 1, 4>>(t, storage, a, g);
}

}  // namespace fairway::ops::cuda
