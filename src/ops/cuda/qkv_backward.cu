#include "cuda/qkv_backward.cuh"

namespace fairway::ops::cuda {

void qkv_backward(const Target& t, Storage storage, const Qkv& a, const QkvGradients& g) {
  qkv_rows::backward(t, storage, a, g);
}

}  // namespace fairway::ops::cuda
