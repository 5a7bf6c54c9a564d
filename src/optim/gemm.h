#pragma once
// Single-threaded matrix products by oneDNN, for callers that give each thread a matrix of its own.

#include <cstdint>

namespace fairway::optim {

/// A strided row-major matrix.
struct MatrixRef {
  const float* data;
  std::int64_t stride;
};

/// While it lives, oneDNN's products on this thread use this thread alone.
class OneThread {
 public:
  OneThread();
  ~OneThread();
  OneThread(const OneThread&) = delete;
  OneThread& operator=(const OneThread&) = delete;

 private:
  int before_;
};

/// c [m, n] = op(a) [m, k] · op(b) [k, n]; the strides are those of the matrices as stored.
void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, MatrixRef a,
          MatrixRef b, float* c, std::int64_t stride_c);

/// c [n, n] = op(a) · op(b) where the result is known to be symmetric: computes the lower half in strips,
/// then mirrors it. Strips depend on n alone.
void gemm_symmetric(bool transpose_a, bool transpose_b, std::int64_t n, std::int64_t k, MatrixRef a,
                    MatrixRef b, float* c);

/// The part of a full product's FLOPs that gemm_symmetric spends.
double symmetric_share(std::int64_t n);

}  // namespace fairway::optim
