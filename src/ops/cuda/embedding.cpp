#include "fairway/ops/embedding.h"

#include "cuda/args.h"

namespace fairway::ops::cuda {

void gather(const KernelArgs& a) {
  const Shape& table = a.in[0].shape();
  const Output y = output(a, 0);
  if (!y) return;
  gather(target(a), storage(a, a.in[0]), storage(a, a.out[0]), table[0], table[1], a.in[1].elements(),
         data(a, 0), integers(a, 1), y);
  launched(a);
}

void gather_backward(const KernelArgs& a) {
  const Shape& table = a.in[0].shape();
  gather_backward(target(a), storage(a, a.in[2]), table[0], table[1], a.in[1].elements(), integers(a, 1),
                  data(a, 2), output(a, 0), a.workspace.data);
  launched(a);
}

void bigram_index(const KernelArgs& a) {
  const Shape& tokens = a.in[0].shape();
  bigram_index(target(a), tokens[0], tokens[1], static_cast<const BigramIndex&>(a.op).rows, integers(a, 0),
               integers(a, 1), output(a, 0));
  launched(a);
}

}  // namespace fairway::ops::cuda
