#pragma once
// What forward and backward around the query/key/value projection read alike.

#include "cuda/launch.cuh"
#include "cuda/qkv.cuh"
#include "fairway/ops/qkv.h"

namespace fairway::ops::cuda {

/// Geometry of rows [batch, length], and the inputs gain, rope and offset from `gain` on, ve, vs and w from
/// `ve` on.
inline Qkv qkv_inputs(const KernelArgs& a, const Shape& rows, const HeadShape& h, int rope_dims,
                      std::size_t gain, bool value_embedding, std::size_t ve) {
  Qkv n;
  n.batch = rows[0];
  n.length = rows[1];
  n.positions = a.in[gain + 1].shape()[0];
  n.heads = h.heads;
  n.kv_heads = h.kv_heads;
  n.head_dim = h.head_dim;
  n.rope_dims = rope_dims;
  n.gain = floats(a, gain);
  n.rope = floats(a, gain + 1);
  n.offset = integers(a, gain + 2);
  if (value_embedding) {
    n.ve = data(a, ve);
    n.vs = floats(a, ve + 1);
    n.w = floats(a, ve + 2);
  }
  return n;
}

}  // namespace fairway::ops::cuda
