#pragma once
#include "fairway/ops/operator.h"

#include <optional>

namespace fairway::ops {

// A squared leaky ReLU f (activation.h) between two linear layers, h = y W1^T, u = r + f(h) W2^T, as
// LinearReluSquared and ReluSquaredLinearAdd, so that neither f(h) nor its gradient costs a pass over memory:
// forward writes f(h) with h, backward applies f'(h) where the product's sums leave the registers. For a GPU
// only; the pass fuse_mlp makes them of plain steps where fused_linear_fits (matmul.h).

// Behind a deferred norm (norm.h) y = row_scale r . m is never made: LinearReluSquared multiplies the sums of
// m by the row's factor, and ReluSquaredLinearAdd, told of r, gives back the gradient of those sums: times
// the same factor.

/// A linear layer and f of its result.
///   in:  0 y [..., K], 1 w [N, K], and with row_scale 2 m [..., K], 3 r [...] (then y is not read)
///   out: act [..., N] = f(h), h [..., N] = y w^T, each only where it is wanted.
/// f is taken of h as stored, so that act is exactly LeakyReluSquared of h. The gradient of the pair flows
/// through h alone (ReluSquaredLinearAdd gives it): act must feed nothing else that has a gradient. With
/// row_scale that is the gradient of m w^T, and the gradient returned for y is multiplied by row_scale r
/// already (norm.h). dtypes as Matmul; FLOPs 2 M N K.
class LinearReluSquared final : public Operator {
 public:
  explicit LinearReluSquared(float slope, std::optional<float> row_scale = {})
      : slope(slope), row_scale(row_scale) {}
  const float slope;
  const std::optional<float> row_scale;
  std::string_view name() const override { return "linear_relu_squared"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  Cost cost(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<int> gradient_only() const override;
  std::string attributes() const override;
};

/// The linear layer after f, added to a residual where there is one: u = r + act w^T, act = f(h).
///   in:  0 h [..., K] (absent where no gradient is wanted), 1 act [..., K] = f(h), 2 w [N, K],
///        3 residual [..., N] (absent: none), 4 r [...] of a deferred norm before h (absent: none)
///   out: u [..., N].  dtypes as Matmul.
/// Backward gives the gradient of h = (du w) f'(h), or of h / (row_scale r), none to act: it is a stored
/// function of h. With slope 0 it reads act, 2 relu(h) = 2 sqrt(act), and h need not be stored at all. The
/// gradients of w and the residual are LinearAdd's.
class ReluSquaredLinearAdd final : public Operator {
 public:
  explicit ReluSquaredLinearAdd(float slope, float row_scale = 1) : slope(slope), row_scale(row_scale) {}
  const float slope, row_scale;
  std::string_view name() const override { return "relu_squared_linear_add"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  Cost cost(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<int> gradient_only() const override;
  std::vector<InPlace> in_place() const override { return {{0, 3}}; }
  std::string attributes() const override;
};

/// in: du [..., N], w [N, K], h [..., K] (from_act: act = f(h) instead, slope 0), r [...] (may be absent)
/// out: dh [..., K] = (du w) f'(h), times row_scale r where r is there. FLOPs 2 M N K.
class ReluSquaredLinearBackward final : public Operator {
 public:
  explicit ReluSquaredLinearBackward(float slope, float row_scale = 1, bool from_act = false)
      : slope(slope), row_scale(row_scale), from_act(from_act) {}
  const float slope, row_scale;
  const bool from_act;
  std::string_view name() const override { return "relu_squared_linear_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  Cost cost(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<InPlace> in_place() const override { return {{0, 2}}; }
};

}  // namespace fairway::ops
