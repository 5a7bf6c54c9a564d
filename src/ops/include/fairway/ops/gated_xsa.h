#pragma once
#include "fairway/ops/attention.h"

namespace fairway::ops {

// Xsa (attention.h) and HeadGate (gates.h) in one pass over attention's output, for a GPU: what stands
// between them is never stored. The pass fuse_gated_xsa makes it of the plain steps where gated_xsa_fits.

/// Whether the kernel takes these heads and a gate that reads `channels` of the rows of n: bf16, heads of 64,
/// 1, 2 or 4 KV heads of 1, 2 or 4 query heads each, at most 16 channels.
bool gated_xsa_fits(const HeadShape& shape, const Meta& n, std::int64_t channels);

/// With m = v[t, h / (H/Hkv)] / max(|v|, 1e-12): y[h] = factor . sigmoid(scale . (w[h] . n[0:C])) .
/// (o[h] - (o[h] . m) m).
///   in: 0 o [B, Sq, H, dh], 1 v [B, S, Hkv, dh], 2 n [B, S, D], 3 w [H, C] (of v and n the last Sq
///   positions) out: y [B, Sq, H, dh]
class GatedXsa final : public Operator {
 public:
  GatedXsa(HeadShape shape, float scale, float factor) : shape(shape), scale(scale), factor(factor) {}
  const HeadShape shape;
  const float scale, factor;
  std::string_view name() const override { return "gated_xsa"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<InPlace> in_place() const override { return {{0, 0}}; }
  std::string attributes() const override;
};

/// The gradients of XsaBackward and HeadGateBackward, one after the other.
///   in: o, v, n, w, dy;  out: do, dv, dn, dw (each may be unwanted)
class GatedXsaBackward final : public Operator {
 public:
  GatedXsaBackward(HeadShape shape, float scale, float factor) : shape(shape), scale(scale), factor(factor) {}
  const HeadShape shape;
  const float scale, factor;
  std::string_view name() const override { return "gated_xsa_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<InPlace> in_place() const override { return {{0, 4}}; }
};

}  // namespace fairway::ops
