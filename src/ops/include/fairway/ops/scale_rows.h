#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// y = factor * r[row] * x: the rows that a deferred norm (norm.h) left out, for those who need them after
/// all.
///   in: x [..., D], r [...] (f32/f64);  out: y [..., D].  No gradient.
class ScaleRows final : public Operator {
 public:
  explicit ScaleRows(float factor) : factor(factor) {}
  const float factor;
  std::string_view name() const override { return "scale_rows"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<InPlace> in_place() const override { return {{0, 0}}; }
  std::string attributes() const override;
};

}  // namespace fairway::ops
