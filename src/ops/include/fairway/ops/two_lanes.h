#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// A block's results on two residual lanes (docs/spec/caseops_model.md section 6.2):
///   lane_i' = rho_i lane_i + P[0][i] (A . a) + P[1][i] (M . m)
/// for attention's result a and the MLP's m, with A and M per channel. With `join` the lanes end here, and y
/// = (lane_0' + lane_1') / 2 is the only output.
///   in:  0 lane_0 [..., D], 1 lane_1, 2 a, 3 m, 4 A [D], 5 M [D], 6 rho [2], 7 P [2, 2]
///   out: lane_0', lane_1' | y
class TwoLanes final : public Operator {
 public:
  explicit TwoLanes(bool join) : join(join) {}
  const bool join;
  std::string_view name() const override { return "two_lanes"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::string attributes() const override;
};

/// With d_i the gradient of lane_i' (`join`: half of dy for both):
///   dlane_i = rho_i d_i;  da = A . sum_i P[0][i] d_i;  dm = M . sum_i P[1][i] d_i
/// and, with sums over rows per channel s_i = d_i . a, t_i = d_i . m, r_i = d_i . lane_i:
///   dA = sum_i P[0][i] s_i, dP[0][i] = A . s_i (a dot product), the same for m; drho_i = the sum of r_i.
///   in:  0 to 7 as TwoLanes, then d_0, d_1 (one may be absent) | dy
///   out: dlane_0, dlane_1, da, dm, dA, dM, drho, dP (each may be unwanted)
class TwoLanesBackward final : public Operator {
 public:
  explicit TwoLanesBackward(bool join) : join(join) {}
  const bool join;
  std::string_view name() const override { return "two_lanes_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
};

}  // namespace fairway::ops
