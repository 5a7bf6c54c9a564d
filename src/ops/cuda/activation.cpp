#include "fairway/ops/activation.h"

#include "cuda/args.h"
#include "fairway/ops/fake_quantize.h"

namespace fairway::ops::cuda {

void leaky_square(const KernelArgs& a) {
  leaky_square(target(a), storage(a, a.in[0]), a.in[0].elements(),
               static_cast<const LeakySquare&>(a.op).slope, data(a, 0), output(a, 0));
  launched(a);
}
void leaky_square_backward(const KernelArgs& a) {
  leaky_square_backward(target(a), storage(a, a.in[0]), a.in[0].elements(),
                        static_cast<const LeakySquareBackward&>(a.op).slope, data(a, 0), data(a, 1),
                        output(a, 0));
  launched(a);
}

void fake_quantize_rows(const KernelArgs& a) {
  const Shape& w = a.in[0].shape();
  const auto q = static_cast<float>(static_cast<const FakeQuantizeRows&>(a.op).q);
  fake_quantize_rows(target(a), storage(a, a.in[0]), w.rows(), w.columns(), q, data(a, 0), output(a, 0));
  launched(a);
}

}  // namespace fairway::ops::cuda
