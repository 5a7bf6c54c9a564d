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

NormBackward gradients(const KernelArgs& a, float scale) {
  NormBackward n;
  n.pieces = pieces(a.in[0].shape().rows());
  n.columns = a.in[0].shape().columns();
  n.scale = scale;
  n.partial = partials(a);
  n.d_first = output(a, 0);
  n.d_second = output(a, 1);
  n.d_channel = output(a, 2);
  return n;
}

void backward(const KernelArgs& a, NormKind kind, const NormBackward& n) {
  norm_backward(target(a), storage(a, a.in[0]), kind, n);
  launched(a);
}

}  // namespace

void rms_norm(const KernelArgs& a) {
  const auto& op = static_cast<const RmsNorm&>(a.op);
  forward(a, NormKind::plain, op.scale, op.eps);
}
void mix_norm(const KernelArgs& a) {
  const auto& op = static_cast<const MixNorm&>(a.op);
  forward(a, NormKind::mix, op.scale, op.eps);
}
void residual_norm(const KernelArgs& a) {
  const auto& op = static_cast<const ResidualNorm&>(a.op);
  forward(a, NormKind::residual, op.scale, op.eps);
}

void rms_norm_backward(const KernelArgs& a) {
  NormBackward n = gradients(a, static_cast<const RmsNormBackward&>(a.op).scale);
  n.x = data(a, 0);
  n.r = floats(a, 1);
  n.dy = data(a, 2);
  backward(a, NormKind::plain, n);
}
void mix_norm_backward(const KernelArgs& a) {
  NormBackward n = gradients(a, static_cast<const MixNormBackward&>(a.op).scale);
  n.first = data(a, 0);
  n.second = data(a, 1);
  n.channel = floats(a, 2);
  n.x = data(a, 3);
  n.r = floats(a, 4);
  n.direct = data(a, 5);
  n.dy = data(a, 6);
  backward(a, NormKind::mix, n);
}
void residual_norm_backward(const KernelArgs& a) {
  NormBackward n = gradients(a, static_cast<const ResidualNormBackward&>(a.op).scale);
  n.x = data(a, 0);
  n.r = floats(a, 1);
  n.first = data(a, 2);
  n.channel = floats(a, 3);
  n.direct = data(a, 4);
  n.dy = data(a, 5);
  backward(a, NormKind::residual, n);
}

}  // namespace fairway::ops::cuda
