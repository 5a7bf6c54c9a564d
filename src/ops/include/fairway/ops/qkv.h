#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// Widest head that the kernels' scratch memory holds.
inline constexpr int max_head_dim = 512;

/// Geometry of grouped-query attention.
struct HeadShape {
  int heads = 0, kv_heads = 0, head_dim = 0;
  int q_width() const { return heads * head_dim; }
  int kv_width() const { return kv_heads * head_dim; }
  int qkv_width() const { return q_width() + 2 * kv_width(); }
};

/// From the fused projection to attention's inputs (docs/spec/model.md sections 6 to 8), per head of dh
/// columns:
///   q = gain[h] * rope(rms(q_raw)), k = rope(rms(k_raw)), v = v_raw + w * (vs * ve)
/// rms: over dh, eps, no gain. rope: the first `rope_dims` dims, half-split pairs (i, i + rope_dims/2),
///   p' = p cos + r sin, r' = -p sin + r cos. Row t of `rope` holds cos for i < rope_dims/2, then sin.
///   Position of (b, s) in the table: s + offset[b] (offset absent: s).
///   in:  0 qkv [B, S, (H + 2 Hkv) dh] columns q | k | v; 1 gain [H]; 2 rope [P, rope_dims] P >= S;
///        3 offset [B] i32 (may be absent);
///        4 ve [B, S, Hkv dh], 5 vs [1], 6 w [1] (absent, all three, without a value embedding)
///   out: 0 q [B, S, H, dh], 1 k [B, S, Hkv, dh], 2 v [B, S, Hkv, dh], 3 r [B, S, H + Hkv] (saved 1/rms)
class QkvPrepare final : public Operator {
 public:
  QkvPrepare(HeadShape shape, int rope_dims, float eps, bool value_embedding)
      : shape(shape), rope_dims(rope_dims), eps(eps), value_embedding(value_embedding) {}
  const HeadShape shape;
  const int rope_dims;
  const float eps;
  const bool value_embedding;
  std::string_view name() const override { return "qkv_prepare"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::string attributes() const override;
};

/// Backward of QkvPrepare and of QkvProduct (qkv_product.h). The projection is not read: with n = rms(raw) a
/// head is q = gain rope(n), so q and k stand for it, and with u = rope^-1(dq), c = (q . dq) / dh
///   d raw = rr (gain u - n (n . gain u) / dh) = rr rope^-1(gain dq - q c / gain),  dgain = sum of q . dq /
///   gain
/// since a rotation (cos^2 + sin^2 = 1) changes no inner product; keys likewise, with gain 1. A head whose
/// gain is exactly 0 has lost its direction: it gives no gradient, nor does its gain get one.
///   in:  0 gain, 1 rope, 2 offset (may be absent), 3 rr [B, S, H + Hkv] (saved 1/rms), 4 q, 5 k,
///        6 r [B, S] of a deferred norm (may be absent), 7 ve, 8 vs, 9 w (absent without),
///        10 dq, 11 dk, 12 dv (each may be absent)
///   out: 0 dqkv [B, S, (H + 2 Hkv) dh], times row_scale r where r is there; 1 dgain [H], and with a value
///        embedding 2 dve, 3 dvs [1], 4 dw [1] (each may be unwanted)
///   dve = w vs dv; dvs = w sum dv . ve; dw = vs sum dv . ve
class QkvBackward final : public Operator {
 public:
  QkvBackward(HeadShape shape, int rope_dims, bool value_embedding, float row_scale = 1)
      : shape(shape), rope_dims(rope_dims), value_embedding(value_embedding), row_scale(row_scale) {}
  const HeadShape shape;
  const int rope_dims;
  const bool value_embedding;
  const float row_scale;
  std::string_view name() const override { return "qkv_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
};

}  // namespace fairway::ops
