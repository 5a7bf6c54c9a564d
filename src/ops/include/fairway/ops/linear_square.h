#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

// A squared leaky ReLU f (activation.h) between two linear layers, h = y W1^T, u = r + f(h) W2^T, recorded as
// LinearSquare and SquareLinearAdd, so that neither f(h) nor its gradient costs a pass over memory: forward,
// f(h) is written with h; backward, the gradient of f(h) is turned into that of h where it is summed up.
// SquareLinearAdd may also follow Matmul and LeakySquare (then f(h) can be rebuilt from h in backward).

/// A linear layer and f of its result.
///   in:  y [..., K], w [N, K];  out: act [..., N] = f(h), h [..., N] = y w^T, each only where it is wanted.
/// f is taken of h as stored, so that act is exactly LeakySquare of h. The gradient of the pair flows through
/// h alone (SquareLinearAdd gives it): act must feed nothing else that has a gradient. dtypes as Matmul;
/// FLOPs 2 M N K. Backward: Matmul's.
class LinearSquare final : public Operator {
 public:
  explicit LinearSquare(float slope) : slope(slope) {}
  const float slope;
  std::string_view name() const override { return "linear_square"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  Cost cost(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<BackwardStep> backward() const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::string attributes() const override;
};

/// The linear layer after f, added to a residual: u = r + act w^T, act = f(h).
///   in:  h [..., K] (absent where no gradient is wanted), act [..., K] = f(h), w [N, K], r [..., N]
///   out: u [..., N].  dtypes as Matmul.
/// Backward gives the gradient of h = (du w) f'(h), none to act: it is a stored function of h. Those of w and
/// r are LinearAdd's.
class SquareLinearAdd final : public Operator {
 public:
  explicit SquareLinearAdd(float slope) : slope(slope) {}
  const float slope;
  std::string_view name() const override { return "square_linear_add"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  Cost cost(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<InPlace> in_place() const override { return {{0, 3}}; }
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::string attributes() const override;
};

/// in: du [..., N], w [N, K], h [..., K];  out: dh [..., K] = (du w) f'(h). FLOPs 2 M N K.
class SquareLinearBackward final : public Operator {
 public:
  explicit SquareLinearBackward(float slope) : slope(slope) {}
  const float slope;
  std::string_view name() const override { return "square_linear_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  Cost cost(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<InPlace> in_place() const override { return {{0, 2}}; }
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
};

}  // namespace fairway::ops
