#include "fairway/ops/activation.h"

#include "cuda/args.h"

namespace fairway::ops::cuda {

void leaky_relu_squared(const KernelArgs& a) {
  leaky_relu_squared(target(a), storage(a, a.in[0]), a.in[0].elements(),
                     static_cast<const LeakyReluSquared&>(a.op).slope, data(a, 0), output(a, 0));
  launched(a);
}
void leaky_relu_squared_backward(const KernelArgs& a) {
  const auto& op = static_cast<const LeakyReluSquaredBackward&>(a.op);
  leaky_relu_squared_backward(target(a), storage(a, a.in[0]), a.in[0].elements(), op.slope, data(a, 0),
                              data(a, 1), output(a, 0));
  launched(a);
}

}  // namespace fairway::ops::cuda
