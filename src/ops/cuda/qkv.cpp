#include "fairway/ops/qkv.h"

#include "cuda/args.h"

namespace fairway::ops::cuda {
namespace {

/// Geometry of rows [batch, length], and the inputs gain, rope and offset from `gain` on, ve, vs and w from
/// `ve` on.
Qkv inputs(const KernelArgs& a, const Shape& rows, const HeadShape& h, int rope_dims, std::size_t gain,
           bool value_embedding, std::size_t ve) {
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

}  // namespace

void qkv_prepare(const KernelArgs& a) {
  const auto& op = static_cast<const QkvPrepare&>(a.op);
  Qkv n = inputs(a, a.in[0].shape(), op.shape, op.rope_dims, 1, op.value_embedding, 4);
  n.qkv = data(a, 0);
  qkv_prepare(target(a), storage(a, a.in[0]), n, op.eps, output(a, 0), output(a, 1), output(a, 2),
              output(a, 3));
  launched(a);
}

void qkv_backward(const KernelArgs& a) {
  const auto& op = static_cast<const QkvBackward&>(a.op);
  QkvGradients g;
  g.rr = floats(a, 3);
  g.q = data(a, 4);
  g.k = data(a, 5);
  g.row = floats(a, 6);
  g.row_scale = op.row_scale;
  g.dq = data(a, 10);
  g.dk = data(a, 11);
  g.dv = data(a, 12);
  g.dqkv = output(a, 0);
  g.dgain = output(a, 1);
  g.dve = output(a, 2);
  g.dvs = output(a, 3);
  g.dw = output(a, 4);
  const Shape& rows = a.in[4].shape();
  g.pieces = pieces(rows[0] * rows[1]);
  g.partial = partials(a);
  qkv_backward(target(a), storage(a, a.in[4]),
               inputs(a, rows, op.shape, op.rope_dims, 0, op.value_embedding, 7), g);
  launched(a);
}

}  // namespace fairway::ops::cuda
