#include "fairway/ops/qkv.h"

#include "cuda/args.h"

namespace fairway::ops::cuda {
namespace {

/// Inputs 0 to 3, and the value embedding's from `ve` on.
Qkv inputs(const KernelArgs& a, const HeadShape& h, int rope_dims, bool value_embedding, std::size_t ve) {
  const Shape& x = a.in[0].shape();
  Qkv n;
  n.batch = x[0];
  n.length = x[1];
  n.positions = a.in[2].shape()[0];
  n.heads = h.heads;
  n.kv_heads = h.kv_heads;
  n.head_dim = h.head_dim;
  n.rope_dims = rope_dims;
  n.qkv = data(a, 0);
  n.gain = floats(a, 1);
  n.rope = floats(a, 2);
  n.offset = integers(a, 3);
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
  qkv_prepare(target(a), storage(a, a.in[0]), inputs(a, op.shape, op.rope_dims, op.value_embedding, 4),
              op.eps, output(a, 0), output(a, 1), output(a, 2), output(a, 3));
  launched(a);
}

void qkv_prepare_backward(const KernelArgs& a) {
  const auto& op = static_cast<const QkvPrepareBackward&>(a.op);
  QkvGradients g;
  g.r = floats(a, 4);
  g.dq = data(a, 8);
  g.dk = data(a, 9);
  g.dv = data(a, 10);
  g.dqkv = output(a, 0);
  g.dgain = output(a, 1);
  g.dve = output(a, 2);
  g.dvs = output(a, 3);
  g.dw = output(a, 4);
  g.pieces = pieces(a.in[0].shape().rows());
  g.partial = partials(a);
  qkv_prepare_backward(target(a), storage(a, a.in[0]),
                       inputs(a, op.shape, op.rope_dims, op.value_embedding, 5), g);
  launched(a);
}

}  // namespace fairway::ops::cuda
