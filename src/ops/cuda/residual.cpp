#include "fairway/ops/residual.h"

#include "cuda/args.h"

namespace fairway::ops::cuda {

void scaled_residual(const KernelArgs& a) {
  const Shape& x = a.in[0].shape();
  scaled_residual(target(a), storage(a, a.in[0]), x.rows(), x.columns(), data(a, 0), data(a, 1), floats(a, 2),
                  a.in[2].elements() == 1, output(a, 0));
  launched(a);
}
void scaled_residual_backward(const KernelArgs& a) {
  const Shape& x = a.in[0].shape();
  scaled_residual_backward(target(a), storage(a, a.in[0]), pieces(x.rows()), x.columns(), data(a, 0),
                           floats(a, 1), a.in[1].elements() == 1, data(a, 2), output(a, 0), output(a, 1),
                           partials(a));
  launched(a);
}

void add(const KernelArgs& a) {
  add(target(a), storage(a, a.in[0]), a.in[0].elements(), data(a, 0), data(a, 1), output(a, 0));
  launched(a);
}
void copy(const KernelArgs& a) {
  if (a.in[0].dtype() == DType::i32)
    copy_integers(target(a), a.in[0].elements(), integers(a, 0), output(a, 0));
  else
    copy(target(a), storage(a, a.in[0]), a.in[0].elements(), data(a, 0), output(a, 0));
  launched(a);
}

void smear(const KernelArgs& a) {
  const Shape& x = a.in[0].shape();
  smear(target(a), storage(a, a.in[0]), x.rows(), x[1], x[2], data(a, 0), floats(a, 1), data(a, 2),
        output(a, 0));
  launched(a);
}
void smear_backward(const KernelArgs& a) {
  const Shape& x = a.in[0].shape();
  smear_backward(target(a), storage(a, a.in[0]), pieces(x.rows()), x[1], x[2], data(a, 0), floats(a, 1),
                 data(a, 2), data(a, 3), output(a, 0), output(a, 1), partials(a));
  launched(a);
}

void take_last(const KernelArgs& a) {
  const Shape& x = a.in[0].shape();
  const int n = static_cast<const TakeLast&>(a.op).n;
  take_last(target(a), storage(a, a.in[0]), x[0], x[1], n, x[2], data(a, 0), output(a, 0));
  launched(a);
}
void take_last_backward(const KernelArgs& a) {
  const Shape& x = a.in[0].shape();
  take_last_backward(target(a), storage(a, a.in[1]), x[0], x[1], a.in[1].shape()[1], x[2], data(a, 1),
                     output(a, 0));
  launched(a);
}

}  // namespace fairway::ops::cuda
