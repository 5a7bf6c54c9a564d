#include "fairway/ops/scale_rows.h"

#include "cuda/args.h"

namespace fairway::ops::cuda {

void scale_rows(const KernelArgs& a) {
  const Shape& x = a.in[0].shape();
  scale_rows(target(a), storage(a, a.in[0]), x.rows(), x.columns(),
             static_cast<const ScaleRows&>(a.op).factor, data(a, 0), floats(a, 1), output(a, 0));
  launched(a);
}

}  // namespace fairway::ops::cuda
