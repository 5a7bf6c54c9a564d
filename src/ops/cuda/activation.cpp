#include "fairway/ops/activation.h"

#include "cuda/args.h"

namespace fairway::ops::cuda {

void leaky_square(const KernelArgs& a) {
  leaky_square(target(a), storage(a, a.in[0]), a.in[0].elements(),
               static_cast<const LeakySquare&>(a.op).slope, data(a, 0), output(a, 0));
  launched(a);
}
void leaky_square_backward(const KernelArgs& a) {
  const auto& op = static_cast<const LeakySquareBackward&>(a.op);
  leaky_square_backward(target(a), storage(a, a.in[0]), a.in[0].elements(), op.slope, data(a, 0), data(a, 1),
                        output(a, 0));
  launched(a);
}

}  // namespace fairway::ops::cuda
