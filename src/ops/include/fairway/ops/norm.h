#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

// RMSNorm without a learned gain (Zhang and Sennrich 2019), fused with what always stands around it.
// r = 1 / sqrt(mean(x^2) + eps) per row; y = scale * r * x. `scale` is the constant 1/sqrt(layer + 1) of a
// block, or 1. Row sums accumulate in fp32 (f64 for f64). D is the last axis.
//
// Deferred: with f = scale * r per row, y W^T = f (x W^T), so a consumer may read x and r and leave y alone
// (an unwanted output). What it then gives as the gradient of y is g' = f * dy, because it has applied the
// factor before its own products; the backward step is `prescaled` and reads g' where it reads dy else.

/// y = scale * rms(x).
///   in:  0 x [..., D]
///        1 the sums of squares of its rows (LinearAdd's second output; may be absent). With y unwanted x is
///        not read then; only on a GPU.
///   out: y [..., D], r [...] (f32/f64; saved for backward)
class RmsNorm final : public Operator {
 public:
  RmsNorm(float scale, float eps, bool deferred = false) : scale(scale), eps(eps), deferred(deferred) {}
  const float scale, eps;
  const bool deferred;  ///< the gradient of y arrives as f * dy; nothing else differs
  std::string_view name() const override { return "rms_norm"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;  ///< RmsNormBackward(x, r, dy) -> dx
  std::string attributes() const override;
};

/// dx = g' - x * (x . g') * r^2 / D with g' = scale * r * dy, which is input 2 itself when `prescaled`.
///   in: x, r, dy;  out: dx
class RmsNormBackward final : public Operator {
 public:
  explicit RmsNormBackward(float scale, bool prescaled = false) : scale(scale), prescaled(prescaled) {}
  const float scale;
  const bool prescaled;
  std::string_view name() const override { return "rms_norm_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<InPlace> in_place() const override { return {{0, 2}}; }
  std::string attributes() const override;
};

/// Start of a block: m = a . u + b . x0 (per channel), y = scale * rms(m); with `skip` (a U-net's connection
/// from layer to layer) m = a . (u + k . s) + b . x0. The sum u + k . s is rounded as part of m only.
///   in: 0 u [..., D], 1 x0 [..., D], 2 mix [2, D] (rows a, b); with `skip` 3 s [..., D], 4 k [D]
///   out: m [..., D], y [..., D], r [...]
class MixNorm final : public Operator {
 public:
  MixNorm(float scale, float eps, bool deferred = false, bool skip = false)
      : scale(scale), eps(eps), deferred(deferred), skip(skip) {}
  const float scale, eps;
  const bool deferred;  ///< the gradient of y arrives as f * dy; nothing else differs
  const bool skip;
  std::string_view name() const override { return "mix_norm"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::string attributes() const override;
};

/// With m = a . (u + k . s) + b . x0, rounded as forward stores it (without `skip` u stands alone),
/// g = dm + d(rms)(dy) and t = a . g:
///   du = t, dx0 = b . g, dmix = (sum of g . (u + k . s), sum of g . x0) over rows
///   ds = k . t, dk = sum of t . s over rows
/// m is made again: its inputs are read anyway for dmix.
///   in:  0 u, 1 x0, 2 mix, 3 r, 4 dm (may be absent), 5 dy (may be absent; f * dy when `prescaled`)
///        with `skip` 6 s, 7 k
///   out: 0 du, 1 dx0, 2 dmix; with `skip` 3 ds, 4 dk (each may be unwanted)
class MixNormBackward final : public Operator {
 public:
  explicit MixNormBackward(float scale, bool prescaled = false, bool skip = false)
      : scale(scale), prescaled(prescaled), skip(skip) {}
  const float scale;
  const bool prescaled, skip;
  std::string_view name() const override { return "mix_norm_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<InPlace> in_place() const override;
  bool joins_outputs() const override { return true; }  ///< du, dx0 and ds, where u, x0 or s are one value
  std::string attributes() const override;
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
