#pragma once
// Launcher of the product that adds to a residual (LinearAdd of fairway/ops/matmul.h) for Hopper.

#include <cuda_runtime_api.h>

namespace fairway::ops::cuda {

struct LinearAddShape {
  int m = 0, n = 0, k = 0;  ///< fused_linear_fits(n, k) must hold (fairway/ops/matmul.h)
};

/// y = residual + x w^T rounded to bf16; x [m, k], w [n, k], residual and y [m, n] (which may be the same
/// memory), all bf16 and aligned to 16 bytes; squares [m, n / 128] of what y holds, or null.
cudaError_t linear_add_fused(const LinearAddShape&, const void* x, const void* w, const void* residual,
                             void* y, float* squares, cudaStream_t stream);

}  // namespace fairway::ops::cuda
