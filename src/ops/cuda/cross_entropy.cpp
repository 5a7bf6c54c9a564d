#include "fairway/ops/cross_entropy.h"

#include "cuda/args.h"

namespace fairway::ops::cuda {

void softcap_cross_entropy(const KernelArgs& a) {
  const Shape& z = a.in[0].shape();
  const auto& op = static_cast<const SoftcapCrossEntropy&>(a.op);
  softcap_cross_entropy(target(a), storage(a, a.in[0]), z.rows(), z.columns(), op.cap, op.z_loss, data(a, 0),
                        integers(a, 1), output(a, 0), output(a, 1));
  launched(a);
}
void softcap_cross_entropy_backward(const KernelArgs& a) {
  const Shape& z = a.in[0].shape();
  const auto& op = static_cast<const SoftcapCrossEntropyBackward&>(a.op);
  softcap_cross_entropy_backward(target(a), storage(a, a.in[0]), z.rows(), z.columns(), op.cap, op.z_loss,
                                 data(a, 0), integers(a, 1), floats(a, 2), floats(a, 3), output(a, 0));
  launched(a);
}

void softcap(const KernelArgs& a) {
  softcap(target(a), storage(a, a.in[0]), a.in[0].elements(), static_cast<const Softcap&>(a.op).cap,
          data(a, 0), output(a, 0));
  launched(a);
}

void weighted_sum(const KernelArgs& a) {
  weighted_sum(target(a), a.in[0].elements(), floats(a, 0), floats(a, 1), output(a, 0));
  launched(a);
}
void weighted_sum_backward(const KernelArgs& a) {
  weighted_sum_backward(target(a), a.in[0].elements(), floats(a, 0), floats(a, 1), output(a, 0));
  launched(a);
}

}  // namespace fairway::ops::cuda
