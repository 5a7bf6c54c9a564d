#pragma once
// The operator of qkv_product.h as a product and QkvPrepare: what the CPU runs, and a GPU where the fused
// kernel does not apply.

#include "fairway/ops/qkv_product.h"

namespace fairway::ops {

/// What the fused kernel of a GPU takes, with bf16 activations and no offsets: pairs of heads of 64, pairs of
/// columns that are turned together within a thread, and a sum over k that stays in shared memory.
constexpr bool qkv_product_fits(const HeadShape& h, int rope_dims, std::int64_t k) {
  return h.head_dim == 64 && h.heads % 2 == 0 && h.kv_heads % 2 == 0 && h.qkv_width() <= 8192 &&
         (rope_dims == 0 || rope_dims == 16 || rope_dims == 32 || rope_dims == 64) && k % 64 == 0 &&
         k >= 64 && k <= 512;
}
/// It takes this one: `rows` is the product's left operand.
inline bool is_fused(const QkvProduct& op, const Meta& rows, bool has_offset) {
  return rows.dtype == DType::bf16 && !has_offset && rows.shape.rows() <= INT32_MAX / 2 &&
         qkv_product_fits(op.shape, op.rope_dims, rows.shape.columns());
}

/// A backend's kernels.
struct QkvParts {
  Kernel matmul, qkv_prepare, scale_rows;
};
void qkv_product_by_parts(const KernelArgs& args, const QkvParts& parts);

}  // namespace fairway::ops
