#pragma once
#include "fairway/ops/qkv.h"

#include <optional>

namespace fairway::ops {

/// What the fused kernel takes, with bf16 activations and no offsets: pairs of heads of 64, pairs of columns
/// that are turned together within a thread, and a sum over k that stays in shared memory.
constexpr bool qkv_product_fits(const HeadShape& h, int rope_dims, std::int64_t k) {
  return h.head_dim == 64 && h.heads % 2 == 0 && h.kv_heads % 2 == 0 && h.qkv_width() <= 8192 &&
         (rope_dims == 0 || rope_dims == 16 || rope_dims == 32 || rope_dims == 64) && k % 64 == 0 &&
         k >= 64 && k <= 512;
}
/// `rows`: the product's left operand.
bool qkv_product_fits(const HeadShape& heads, int rope_dims, const Meta& rows);

/// The query/key/value projection and QkvPrepare (qkv.h) of it, raw = y w^T, as one kernel of a GPU, so that
/// the projection itself is never stored; the pass fuse_heads makes it of plain steps. With `row_scale`,
/// behind a deferred norm (norm.h), y is not read: raw = row_scale r (m w^T) per row, and the gradient
/// returned for y is multiplied by row_scale r already.
///   in:  0 y [B, S, D], 1 w [(H + 2 Hkv) dh, D], 2 gain [H], 3 rope [P, rope_dims], 4 absent (QkvPrepare's
///        offset), 5 ve [B, S, Hkv dh], 6 vs [1], 7 w_l [1] (all three absent without a value embedding);
///        with row_scale 8 m [B, S, D], 9 r [B, S]
///   out: 0 q [B, S, H, dh], 1 k [B, S, Hkv, dh], 2 v [B, S, Hkv, dh], 3 rr [B, S, H + Hkv] (saved 1/rms)
/// dtypes as Matmul and QkvPrepare; rounds once, when it stores. FLOPs 2 B S D (H + 2 Hkv) dh. Backward:
/// QkvBackward, then the product's two.
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
  std::string attributes() const override;
};

}  // namespace fairway::ops
