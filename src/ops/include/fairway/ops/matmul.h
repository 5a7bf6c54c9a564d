#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// What a product is stored in.
enum class ProductResult : std::uint8_t {
  as_operands,
  wide,  ///< f32 for bf16 operands: gradients of weights
};

/// Matrix product c = op(a) · op(b), rows and columns as below; leading axes of `a` are flattened into rows.
///   in:  a  [..., K] (or [K, M] flattened from the left when transpose_a), b [K, N] (or [N, K] when
///   transpose_b) out: c  [..., N] (the leading axes of `a`; [M, N] when transpose_a)
/// A linear layer y = x W^T is Matmul(false, true). Write::add accumulates into c (beta = 1).
/// dtypes: f32 (or f64 in the harness); Context::products bf16 rounds both operands to bf16 and accumulates
/// in fp32. On a GPU also bf16 operands, fp32 sums; c is bf16, or f32 with ProductResult::wide.
/// Deterministic: tiles and splits of K follow from the shape alone, splits are summed in index order. FLOPs
/// 2 M N K. Backward: da = dc · op(b)^T, db = op(a)^T · dc (wide: b is where linear layers have their
/// weight).
class Matmul final : public Operator {
 public:
  Matmul(bool transpose_a, bool transpose_b, ProductResult result = ProductResult::as_operands)
      : transpose_a(transpose_a), transpose_b(transpose_b), result(result) {}
  const bool transpose_a, transpose_b;
  const ProductResult result;

  std::string_view name() const override { return "matmul"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  Cost cost(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<BackwardStep> backward() const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::string attributes() const override;
};

/// Shapes of a GPU's fused linear layers (linear_relu_squared.h; the squares of LinearAdd): n columns, a sum
/// over k.
constexpr bool fused_linear_fits(std::int64_t n, std::int64_t k) {
  return n % 128 == 0 && n >= 128 && n <= 8192 && k % 64 == 0 && k >= 64 && k <= 512;
}
/// The same of y = x W^T with bf16 operands.
bool fused_linear_fits(const Meta& x, const Meta& y);

/// Columns whose squares are summed together: what one block of a GPU's product kernel has of a row.
inline constexpr std::int64_t squares_width = 128;
/// The sums of squares [..., ceil(D / 128)] of rows [..., D]: f32, f64 beside f64.
Meta row_squares_of(const Meta& rows);

/// A linear layer whose result is added to a residual: y = r + x W^T, the sum inside the product (beta = 1).
///   in:  x [..., K], w [N, K], r [..., N]
///   out: y [..., N]; with `squares` also the sums of squares of its rows for the norm that follows (no
///        gradient; on a GPU, where fused_linear_fits: the pass defer_norms asks for them)
/// dtypes as Matmul. The gradient of r is that of y.
class LinearAdd final : public Operator {
 public:
  explicit LinearAdd(bool squares = false) : squares(squares) {}
  const bool squares;
  std::string_view name() const override { return "linear_add"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  Cost cost(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<InPlace> in_place() const override { return {{0, 2}}; }
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
};

}  // namespace fairway::ops
