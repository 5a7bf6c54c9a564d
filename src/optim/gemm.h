#pragma once
// Products of symmetric results, on the calling thread: callers give each thread a matrix of its own.

#include "fairway/ops/gemm.h"

namespace fairway::optim {

/// A strided row-major matrix.
template <class E>
struct Matrix {
  const E* data;
  std::int64_t stride;
};

/// c [m, n] = op(a) [m, k] . op(b) [k, n]; the strides are those of the matrices as stored.
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, Matrix<float> a,
          Matrix<float> b, float* c, std::int64_t stride_c);
/// With bf16 operands; only where ops::has_bf16_gemm().
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
          Matrix<tensor::bf16> a, Matrix<tensor::bf16> b, float* c, std::int64_t stride_c);

/// c [n, n] = op(a) . op(b) where the result is known to be symmetric: computes the lower half in strips,
/// then mirrors it. Strips depend on n alone.
template <class E>
void gemm_symmetric(bool transpose_a, bool transpose_b, std::int64_t n, std::int64_t k, Matrix<E> a,
                    Matrix<E> b, float* c);

/// The part of a full product's FLOPs that gemm_symmetric spends.
double symmetric_share(std::int64_t n);

}  // namespace fairway::optim
