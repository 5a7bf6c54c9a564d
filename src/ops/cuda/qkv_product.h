#pragma once
// Launcher of the fused query/key/value product (fairway/ops/qkv_product.h) for Hopper.

#include <cuda_runtime_api.h>

namespace fairway::ops::cuda {

/// Everything bf16 and aligned to 16 bytes but gain, rope, r, vs, w and rr, which are fp32.
/// qkv_product_fits(heads, kv_heads, 64, rope_dims, depth) must hold.
struct FusedQkv {
  int rows = 0, length = 0;  ///< position of a row: row % length
  int heads = 0, kv_heads = 0, rope_dims = 0;
  int depth = 0;  ///< columns of a
  float eps = 0, row_scale = 1;
  const void *a = nullptr, *weight = nullptr;
  const float *gain = nullptr, *rope = nullptr;
  const float* r = nullptr;  ///< null: the projection is a w^T, else row_scale r[row] (a w^T)
  const void* ve = nullptr;  ///< null: no value embedding
  const float *vs = nullptr, *w = nullptr;
  void *q = nullptr, *k = nullptr, *v = nullptr;  ///< each may be null
  float* rr = nullptr;                            ///< may be null
};
cudaError_t qkv_product(const FusedQkv&, cudaStream_t stream);

}  // namespace fairway::ops::cuda
