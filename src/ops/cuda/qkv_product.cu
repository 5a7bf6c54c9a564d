#include "cuda/args.h"
#include "cuda/qkv_product.cuh"
#include "fairway/ops/qkv_product.h"

namespace fairway::ops::cuda {

void qkv_product(const KernelArgs& a) {
  const auto& op = static_cast<const QkvProduct&>(a.op);
  const View& rows = a.in[op.row_scale ? 8 : 0];
  base::check(qkv_product_fits(op.shape, op.rope_dims, rows.meta) && !data(a, 4),
              "{} of heads of {} from {}: no kernel fits", op.name(), op.shape.head_dim, rows.shape().str());
  check_writes_set(a);
  qkv::FusedQkv f;
  f.rows = static_cast<int>(rows.shape().rows());
  f.length = static_cast<int>(rows.shape()[1]);
  f.heads = op.shape.heads;
  f.kv_heads = op.shape.kv_heads;
  f.rope_dims = op.rope_dims;
  f.depth = static_cast<int>(rows.shape().columns());
  f.eps = op.eps;
  f.row_scale = op.row_scale.value_or(1);
  f.a = rows.data;
  f.weight = data(a, 1);
  f.gain = floats(a, 2);
  f.rope = floats(a, 3);
  if (op.value_embedding) f.ve = data(a, 5), f.vs = floats(a, 6), f.w = floats(a, 7);
  if (op.row_scale) f.r = floats(a, 9);
  f.q = a.out[0].data;
  f.k = a.out[1].data;
  f.v = a.out[2].data;
  f.rr = a.out[3].as<float>();
  check_aligned(a, {f.a, f.weight, f.ve, f.rope, f.rr, f.q, f.k, f.v});
  // Two warpgroups, eight stages: the fastest of those that bench/cuda/qkv_product_main.cu times.
  check_cuda(qkv::product<2, 8>(f, target(a).stream), op.name());
}

}  // namespace fairway::ops::cuda
