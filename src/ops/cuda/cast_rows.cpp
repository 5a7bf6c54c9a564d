#include "fairway/ops/cast_rows.h"

#include "cuda/args.h"

namespace fairway::ops::cuda {

void cast_rows(const KernelArgs& a) {
  const Shape& w = a.in[0].shape();
  const auto q = static_cast<float>(static_cast<const CastRows&>(a.op).q);
  cast_rows(target(a), storage(a, a.out[0]), w.rows(), w.columns(), q, floats(a, 0), floats(a, 1),
            output(a, 0));
  launched(a);
}

void cast_rows_backward(const KernelArgs& a) {
  const Shape& w = a.in[0].shape();
  const auto q = static_cast<float>(static_cast<const CastRowsBackward&>(a.op).q);
  cast_rows_backward(target(a), w.rows(), w.columns(), q, floats(a, 0), floats(a, 1), floats(a, 2),
                     output(a, 0), output(a, 1));
  launched(a);
}

}  // namespace fairway::ops::cuda
