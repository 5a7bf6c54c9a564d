#include "cuda/qkv_backward.cuh"
#include "cuda/qkv_inputs.cuh"

namespace fairway::ops::cuda {

void qkv_backward(const KernelArgs& a) {
  const auto& op = static_cast<const QkvBackward&>(a.op);
  const Shape& rows = a.in[4].shape();
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
  g.splits = split_rows_on_device(rows[0] * rows[1]);
  g.partial = partials(a);
  const Qkv n = qkv_inputs(a, rows, op.shape, op.rope_dims, 0, op.value_embedding, 7);
  dispatch(a, a.in[4], [&]<class T>(T) { qkv_rows::backward<T>(target(a), n, g); });
}

}  // namespace fairway::ops::cuda
