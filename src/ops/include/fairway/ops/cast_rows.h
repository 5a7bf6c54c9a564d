#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// A weight as products read it, once per update: y[r] = scale[r] * Q(w[r]).
/// Q is the identity (q = 0) or the straight-through row quantiser of docs/spec/training.md section 11: with
///   s = max(max|w_row| / q, 1 / q),  Q(w) = s * clamp(round_half_even(w / s), -q - 1, q);  q = 31 for int6,
///   15 for int5.
/// `scale` folds a per-channel factor that follows the product (x W^T) * scale into its weight.
///   in: w [rows, columns] f32/f64, scale [rows] (may be absent: 1);  out: y in `result`: f32, or (GPU) bf16;
///   f64 for f64.
class CastRows final : public Operator {
 public:
  explicit CastRows(int q, DType result = DType::f32) : q(q), result(result) {}
  const int q;
  const DType result;
  std::string_view name() const override { return "cast_rows"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::string attributes() const override;
};

/// dw = scale . dy (straight through Q), dscale[r] = sum_c dy[r, c] Q(w)[r, c]. dw may lie over dy.
///   in: w, scale (may be absent), dy in w's dtype;  out: dw, dscale [rows] (each may be unwanted)
class CastRowsBackward final : public Operator {
 public:
  explicit CastRowsBackward(int q) : q(q) {}
  const int q;
  std::string_view name() const override { return "cast_rows_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<InPlace> in_place() const override { return {{0, 2}}; }
};

}  // namespace fairway::ops
