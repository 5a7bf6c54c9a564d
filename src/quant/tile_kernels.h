#pragma once
// Products of tiles and the rounding of columns in order, compiled for several instruction sets like
// row_kernels.h. Sums go by ascending index with separate products and sums, so all give the same bits.

#include <cstdint>

namespace fairway::quant::kernels {

inline constexpr std::int64_t tile = 64;   ///< rows and columns of a tile of doubles
inline constexpr std::int64_t lanes = 16;  ///< rows whose columns are rounded together

/// C += sign * A B over tiles of 64 x 64: `a`, `c` with row strides, `b` dense [64, 64].
void multiply_tile(const double* a, std::int64_t a_stride, const double* b, double sign, double* c,
                   std::int64_t c_stride);

/// One lane group of GPTQ (docs/spec/caseops_quantization.md section 3), columns in their order:
///   centre_t = w_t + sum over j < t of d_j feedback[t][j],  q_t = round(centre_t / scale_t),  d_t = w_t -
///   q_t scale_t.
/// w, d [n][lanes]; feedback [n] rows of stride n; `fine` [n] says which columns take `fine_scale` and 127
/// instead of `scale` and `bound`. Writes d and q [n][lanes].
void round_columns(const float* w, std::int64_t n, const float* feedback, const std::uint8_t* fine,
                   const float* scale, float bound, const float* fine_scale, float* d, std::int8_t* q);

/// y += factor * x.
void add_scaled(double factor, const double* x, std::int64_t n, double* y);
/// (x, y) <- (c x - s y, s x + c y).
void rotate(double c, double s, double* x, double* y, std::int64_t n);
/// y = A x over rows and columns from `first` on, A symmetric [n, n].
void times_vector(const double* a, std::int64_t n, std::int64_t first, const double* x, double* y);
/// A += factor * x y^T over rows and columns from `first` on.
void add_outer(double* a, std::int64_t n, std::int64_t first, double factor, const double* x,
               const double* y);

}  // namespace fairway::quant::kernels
