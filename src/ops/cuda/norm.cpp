#include "fairway/ops/norm.h"

#include "cuda/args.h"

namespace fairway::ops::cuda {
namespace {

/// m and y may be unwanted; r is the last output.
void forward(const KernelArgs& a, NormKind kind, float scale, float eps) {
  NormForward n;
  n.rows = a.in[0].shape().rows();
  n.columns = a.in[0].shape().columns();
  n.scale = scale;
  n.eps = eps;
  n.x = data(a, 0);
  const bool mixes = kind != NormKind::plain;
  n.skip = data(a, 3);
  n.skip_channel = floats(a, 4);
  if (mixes) {
    n.other = data(a, 1);
    n.channel = floats(a, 2);
    n.m = output(a, 0);
  }
  n.y = output(a, mixes ? 1 : 0);
  n.r = output(a, mixes ? 2 : 1);
  norm_forward(target(a), storage(a, a.in[0]), kind, n);
  launched(a);
}

}  // namespace

void rms_norm(const KernelArgs& a) {
  const auto& op = static_cast<const RmsNorm&>(a.op);
  if (const float* squares = floats(a, 1); squares && !a.out[0]) {
    const Shape& x = a.in[0].shape();
    norm_from_squares(target(a), x.rows(), x.columns(), view(a, 1).shape().columns(), op.eps, squares,
                      output(a, 1));
    return launched(a);
  }
  forward(a, NormKind::plain, op.scale, op.eps);
}
void mix_norm(const KernelArgs& a) {
  const auto& op = static_cast<const MixNorm&>(a.op);
  forward(a, op.skip ? NormKind::mix_skip : NormKind::mix, op.scale, op.eps);
}
void residual_norm(const KernelArgs& a) {
  const auto& op = static_cast<const ResidualNorm&>(a.op);
  forward(a, NormKind::residual, op.scale, op.eps);
}

void rms_norm_backward(const KernelArgs& a) {
  const auto& op = static_cast<const RmsNormBackward&>(a.op);
  NormBackward n;
  n.pieces = pieces(a.in[0].shape().rows());
  n.columns = a.in[0].shape().columns();
  n.scale = op.scale;
  n.prescaled = op.prescaled;
  n.x = data(a, 0);
  n.r = floats(a, 1);
  n.dy = data(a, 2);
  n.dx = output(a, 0);
  norm_backward(target(a), storage(a, a.in[0]), NormKind::plain, n);
  launched(a);
}

void mix_norm_backward(const KernelArgs& a) {
  const auto& op = static_cast<const MixNormBackward&>(a.op);
  MixNormGradients n;
  n.pieces = pieces(a.in[0].shape().rows());
  n.columns = a.in[0].shape().columns();
  n.scale = op.scale;
  n.prescaled = op.prescaled;
  n.u = data(a, 0);
  n.x0 = data(a, 1);
  n.mix = floats(a, 2);
  n.r = floats(a, 3);
  n.dm = data(a, 4);
  n.dy = data(a, 5);
  n.s = data(a, 6);
  n.k = floats(a, 7);
  n.du = output(a, 0);
  n.dx0 = output(a, 1);
  n.dmix = output(a, 2);
  n.ds = output(a, 3);
  n.dk = output(a, 4);
  n.partial = partials(a);
  mix_norm_backward(target(a), storage(a, a.in[0]), n);
  launched(a);
}

void residual_norm_backward(const KernelArgs& a) {
  NormBackward n;
  n.pieces = pieces(a.in[0].shape().rows());
  n.columns = a.in[0].shape().columns();
  n.scale = static_cast<const ResidualNormBackward&>(a.op).scale;
  n.x = data(a, 0);
  n.r = floats(a, 1);
  n.branch = data(a, 2);
  n.channel = floats(a, 3);
  n.direct = data(a, 4);
  n.dy = data(a, 5);
  n.dx = output(a, 0);
  n.d_branch = output(a, 1);
  n.d_channel = output(a, 2);
  n.partial = partials(a);
  norm_backward(target(a), storage(a, a.in[0]), NormKind::residual, n);
  launched(a);
}

}  // namespace fairway::ops::cuda
