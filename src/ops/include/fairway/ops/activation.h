#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// Squared leaky ReLU: y = z^2, z = x for x > 0, slope * x otherwise. slope 0: relu^2 (Primer); 0.5: leaky^2.
///   in: x;  out: y of the same shape.   y' = 2x for x > 0, 2 slope^2 x otherwise
///   (docs/spec/model.md section 10)
class LeakyReluSquared final : public Operator {
 public:
  explicit LeakyReluSquared(float slope) : slope(slope) {}
  const float slope;
  std::string_view name() const override { return "leaky_relu_squared"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<InPlace> in_place() const override { return {{0, 0}}; }
  std::string attributes() const override;
};

/// in: x, dy;  out: dx
class LeakyReluSquaredBackward final : public Operator {
 public:
  explicit LeakyReluSquaredBackward(float slope) : slope(slope) {}
  const float slope;
  std::string_view name() const override { return "leaky_relu_squared_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<InPlace> in_place() const override { return {{0, 1}, {0, 0}}; }
};

}  // namespace fairway::ops
