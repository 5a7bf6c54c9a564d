#include "fairway/ops/memory_tokens.h"

#include "cuda/args.h"

namespace fairway::ops::cuda {

void memory_tokens(const KernelArgs& a) {
  const Shape& x = a.in[0].shape();
  memory_tokens(target(a), storage(a, a.in[0]), x.rows(), x[1], x[2], a.in[1].shape()[0], data(a, 0),
                floats(a, 1), output(a, 0));
  launched(a);
}
void memory_tokens_backward(const KernelArgs& a) {
  const Shape& dy = a.in[1].shape();
  memory_tokens_backward(target(a), storage(a, a.in[1]), dy.rows(), dy[1], dy[2], a.in[0].shape()[0],
                         data(a, 1), output(a, 0), output(a, 1));
  launched(a);
}

}  // namespace fairway::ops::cuda
