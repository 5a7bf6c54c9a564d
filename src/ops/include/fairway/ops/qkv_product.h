#pragma once
#include "fairway/ops/qkv.h"

#include <optional>

namespace fairway::ops {

/// The query/key/value projection and QkvPrepare (qkv.h) of it, raw = y w^T; on a GPU one kernel where it
/// fits, so that the projection itself is never stored. With `row_scale`, behind a deferred norm (norm.h), y
/// is not read: raw = row_scale r (m w^T) per row, and what y gets as its gradient is times row_scale r
/// already.
///   in:  0 y [B, S, D], 1 w [(H + 2 Hkv) dh, D], 2 gain [H], 3 rope [P, rope_dims], 4 offset [B] i32 (may be
///        absent), 5 ve [B, S, Hkv dh], 6 vs [1], 7 w_l [1] (all three absent without a value embedding);
///        with row_scale 8 m [B, S, D], 9 r [B, S]
///   out: 0 q [B, S, H, dh], 1 k [B, S, Hkv, dh], 2 v [B, S, Hkv, dh], 3 rr [B, S, H + Hkv] (saved 1/rms)
/// dtypes as Matmul and QkvPrepare. The fused kernel rounds once, when it stores; by parts the projection is
/// rounded before. FLOPs 2 B S D (H + 2 Hkv) dh. Backward: QkvBackward, then the product's two.
class QkvProduct final : public Operator {
 public:
  QkvProduct(HeadShape shape, int rope_dims, float eps, bool value_embedding,
             std::optional<float> row_scale = {})
      : shape(shape),
        rope_dims(rope_dims),
        eps(eps),
        value_embedding(value_embedding),
        row_scale(row_scale) {}
  const HeadShape shape;
  const int rope_dims;
  const float eps;
  const bool value_embedding;
  const std::optional<float> row_scale;
  std::string_view name() const override { return "qkv_product"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  Cost cost(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<int> gradient_only() const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::string attributes() const override;
};

}  // namespace fairway::ops
