#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// y = x + s . a, s per channel [D] or one scalar [1] (spec shape [] or [1]).
///   in: x [..., D], a [..., D], s [D] | [1];  out: y [..., D].  The gradient of x is that of y (an alias).
class ScaledResidual final : public Operator {
 public:
  std::string_view name() const override { return "scaled_residual"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;  ///< ScaledResidualBackward, then the alias for x
  std::vector<InPlace> in_place() const override { return {{0, 0}}; }
};

/// da = s . dy, ds = sum of dy . a (over rows; over everything for a scalar).
///   in: a, s, dy;  out: da, ds (each may be unwanted)
class ScaledResidualBackward final : public Operator {
 public:
  std::string_view name() const override { return "scaled_residual_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
};

/// y = a + b.   in: a, b of one shape;  out: y.  Both gradients are that of y: an alias for one, a copy for
/// the other.
class Add final : public Operator {
 public:
  std::string_view name() const override { return "add"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<InPlace> in_place() const override { return {{0, 0}, {0, 1}}; }
};

/// y = x (with Write::add: y += x). Used by derivation to merge gradients and by state updates.
class Copy final : public Operator {
 public:
  std::string_view name() const override { return "copy"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
};

/// Smear (docs/spec/model.md section 4): y[t] = (1 - g) . x[t] + g . x[t-1], g = sigmoid(gamma) per channel;
/// before the first position stands `previous`, or zero.
///   in: x [B, S, D], gamma [D], previous [B, D] (optional third input; no gradient flows to it);  out: y [B,
///   S, D]
class Smear final : public Operator {
 public:
  std::string_view name() const override { return "smear"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
};

/// dx[t] = (1 - g) . dy[t] + g . dy[t+1]; dgamma = g (1 - g) sum_t dy[t] . (x[t-1] - x[t]).
///   in: x, gamma, dy, previous (may be absent: zero);  out: dx, dgamma (each may be unwanted)
class SmearBackward final : public Operator {
 public:
  std::string_view name() const override { return "smear_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
};

/// The last n positions of each row: y = x[:, S-n:].   in: x [B, S, D];  out: y [B, n, D].
/// Backward writes zeros before them.
class TakeLast final : public Operator {
 public:
  explicit TakeLast(int n) : n(n) {}
  const int n;
  std::string_view name() const override { return "take_last"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::string attributes() const override;
};

/// in: x (shape only), dy [B, n, D];  out: dx [B, S, D]
class TakeLastBackward final : public Operator {
 public:
  std::string_view name() const override { return "take_last_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
};

}  // namespace fairway::ops
