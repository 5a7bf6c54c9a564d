#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

// RMSNorm without a learned gain (Zhang and Sennrich 2019), fused with what always stands around it.
// r = 1 / sqrt(mean(x^2) + eps) per row; y = scale * r * x. `scale` is the constant 1/sqrt(layer + 1) of a
// block, or 1. Row sums accumulate in fp32 (f64 for f64). D is the last axis.

/// y = scale * rms(x).   in: x [..., D];  out: y [..., D], r [...] (f32/f64; saved for backward)
class RmsNorm final : public Operator {
 public:
  RmsNorm(float scale, float eps) : scale(scale), eps(eps) {}
  const float scale, eps;
  std::string_view name() const override { return "rms_norm"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;  ///< RmsNormBackward(x, r, dy) -> dx
  std::string attributes() const override;
};

/// dx = scale * r * (dy - x * (x . dy) * r^2 / D).   in: x, r, dy;  out: dx
class RmsNormBackward final : public Operator {
 public:
  explicit RmsNormBackward(float scale) : scale(scale) {}
  const float scale;
  std::string_view name() const override { return "rms_norm_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<InPlace> in_place() const override { return {{0, 2}}; }
};

/// Start of a block: m = a . u + b . x0 (per channel), y = scale * rms(m).
///   in: u [..., D], x0 [..., D], mix [2, D] (rows a, b);  out: m [..., D], y [..., D], r [...]
class MixNorm final : public Operator {
 public:
  MixNorm(float scale, float eps) : scale(scale), eps(eps) {}
  const float scale, eps;
  std::string_view name() const override { return "mix_norm"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::string attributes() const override;
};

/// With g = dm + d(rms)(dy): du = a . g, dx0 = b . g, dmix = (sum_t g . u, sum_t g . x0).
///   in: u, x0, mix, m, r, dm (may be absent), dy (may be absent);  out: du, dx0, dmix (each may be unwanted)
class MixNormBackward final : public Operator {
 public:
  explicit MixNormBackward(float scale) : scale(scale) {}
  const float scale;
  std::string_view name() const override { return "mix_norm_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<InPlace> in_place() const override { return {{0, 6}, {0, 5}}; }
};

/// Middle of a block: p = x + s . a, z = scale * rms(p).   s: per-channel scale [D].
///   in: x [..., D], a [..., D], s [D];  out: p [..., D], z [..., D], r [...]
class ResidualNorm final : public Operator {
 public:
  ResidualNorm(float scale, float eps) : scale(scale), eps(eps) {}
  const float scale, eps;
  std::string_view name() const override { return "residual_norm"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<InPlace> in_place() const override { return {{0, 0}}; }
  std::string attributes() const override;
};

/// With g = dp + d(rms)(dz): dx = g, da = s . g, ds = sum_t g . a.
///   in: p, r, a, s, dp (may be absent), dz (may be absent);  out: dx, da, ds (each may be unwanted)
class ResidualNormBackward final : public Operator {
 public:
  explicit ResidualNormBackward(float scale) : scale(scale) {}
  const float scale;
  std::string_view name() const override { return "residual_norm_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<InPlace> in_place() const override { return {{0, 4}, {1, 5}}; }
};

}  // namespace fairway::ops
