#pragma once
// Launchers of the fused products around the squared leaky ReLU (fairway/ops/linear_relu_squared.h) for
// Hopper.

#include <cuda_runtime_api.h>

namespace fairway::ops::cuda {

/// Rows, columns and summed dimension of the product. fused_linear_fits(n, k) must hold
/// (fairway/ops/matmul.h).
struct SquareShape {
  int m = 0, n = 0, k = 0;
  float slope = 0;
  const float* r = nullptr;  ///< [m]: row i of the result is times row_scale r[i]; null: not
  float row_scale = 1;
  bool from_act = false;  ///< backward, slope 0: `h` is act instead
};

/// act = f(h), h = y w^T (row factors included) rounded to bf16; y [m, k], w [n, k], h and act [m, n], all
/// bf16 and aligned to 16 bytes. `h` or `act` may be null.
cudaError_t linear_relu_squared_forward(const SquareShape&, const void* y, const void* w, void* h, void* act,
                                        cudaStream_t stream);
/// dh (+)= (du w) f'(h), row factors included; du [m, k], w [k, n], h and dh [m, n], which may be the same
/// memory unless added to.
cudaError_t linear_relu_squared_backward(const SquareShape&, const void* du, const void* w, const void* h,
                                         void* dh, bool add, cudaStream_t stream);

}  // namespace fairway::ops::cuda
