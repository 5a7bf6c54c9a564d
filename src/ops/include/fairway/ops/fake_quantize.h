#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// Straight-through row quantisation (spec/training.md section 11): s = max(max|w_row| / q, 1 / q),
/// y = s * clamp(round_half_even(w / s), -q - 1, q). Gradient of w = gradient of y (an alias).
///   in: w [rows, columns];  out: y.   q = 31 for int6, 15 for int5.
class FakeQuantizeRows final : public Operator {
 public:
  explicit FakeQuantizeRows(int q) : q(q) {}
  const int q;
  std::string_view name() const override { return "fake_quantize_rows"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::string attributes() const override;
};

}  // namespace fairway::ops
