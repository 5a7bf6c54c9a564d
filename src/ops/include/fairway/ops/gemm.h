#pragma once
// Single-threaded matrix products: the tile that kernels and the optimiser build on. All matrices are
// row-major with a leading dimension (elements from one row to the next). c = alpha * op(a) op(b) + beta * c
// with c [m, n], op(a) [m, k], op(b) [k, n]; a transposed operand is stored [k, m] or [n, k]. Thread-safe;
// the same operands give the same bits on every thread.

#include <cstdint>

#include "fairway/tensor/dtype.h"

namespace fairway::ops {

/// Extents and storage of one product.
struct GemmShape {
  bool transpose_a = false, transpose_b = false;
  std::int64_t m = 0, n = 0, k = 0;
  std::int64_t lda = 0, ldb = 0, ldc = 0;
  bool operator==(const GemmShape&) const = default;
};

/// oneDNN's sgemm on the calling thread alone, whatever OpenMP is set to. beta = 0 never reads c.
void gemm(const GemmShape& shape, float alpha, const float* a, const float* b, float beta, float* c);
/// bf16 operands, fp32 accumulation; c is overwritten or added to. Only where has_bf16_gemm().
void gemm(const GemmShape& shape, const tensor::bf16* a, const tensor::bf16* b, bool add, float* c);
/// The processor (as pinned by pin_isa) multiplies bf16 natively.
bool has_bf16_gemm();

}  // namespace fairway::ops
