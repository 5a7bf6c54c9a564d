#include "gemm.h"

#include <algorithm>

namespace fairway::optim {
namespace {

// Rows of one strip: small enough to skip nearly half of the square, large enough to run at full speed.
constexpr std::int64_t strip = 64;
constexpr std::int64_t mirror_tile = 32;

void mirror_lower(float* c, std::int64_t n) {
  for (std::int64_t r0 = 0; r0 < n; r0 += mirror_tile)
    for (std::int64_t c0 = 0; c0 <= r0; c0 += mirror_tile)
      for (std::int64_t col = c0; col < std::min(c0 + mirror_tile, n); ++col)
        for (std::int64_t row = std::max(r0, col + 1); row < std::min(r0 + mirror_tile, n); ++row)
          c[col * n + row] = c[row * n + col];
}

}  // namespace

void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k, Matrix<float> a,
          Matrix<float> b, float* c, std::int64_t stride_c) {
  ops::gemm({transpose_a, transpose_b, m, n, k, a.stride, b.stride, stride_c}, 1.0f, a.data, b.data, 0.0f, c);
}

void gemm(bool transpose_a, bool transpose_b, std::int64_t m, std::int64_t n, std::int64_t k,
          Matrix<tensor::bf16> a, Matrix<tensor::bf16> b, float* c, std::int64_t stride_c) {
  ops::gemm({transpose_a, transpose_b, m, n, k, a.stride, b.stride, stride_c}, a.data, b.data, false, c);
}

template <class E>
void gemm_symmetric(bool transpose_a, bool transpose_b, std::int64_t n, std::int64_t k, Matrix<E> a,
                    Matrix<E> b, float* c) {
  for (std::int64_t row = 0; row < n; row += strip) {
    const std::int64_t rows = std::min(strip, n - row);
    const Matrix<E> part{a.data + (transpose_a ? row : row * a.stride), a.stride};
    gemm(transpose_a, transpose_b, rows, row + rows, k, part, b, c + row * n, n);
  }
  mirror_lower(c, n);
}

template void gemm_symmetric(bool, bool, std::int64_t, std::int64_t, Matrix<float>, Matrix<float>, float*);
template void gemm_symmetric(bool, bool, std::int64_t, std::int64_t, Matrix<tensor::bf16>,
                             Matrix<tensor::bf16>, float*);

double symmetric_share(std::int64_t n) {
  double cells = 0;
  for (std::int64_t row = 0; row < n; row += strip) {
    const std::int64_t rows = std::min(strip, n - row);
    cells += static_cast<double>(rows) * static_cast<double>(row + rows);
  }
  return cells / (static_cast<double>(n) * static_cast<double>(n));
}

}  // namespace fairway::optim
