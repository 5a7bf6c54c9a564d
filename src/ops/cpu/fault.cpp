#include "fault.h"

#include "fairway/base/error.h"

namespace fairway::ops::cpu {

void index_fault(std::string_view op, std::int64_t index, std::int64_t limit) {
  base::check(false, "{}: index {} is outside [0, {})", op, index, limit);
  __builtin_unreachable();
}

void dtype_fault(tensor::DType dtype) {
  base::check(false, "CPU kernels compute in f32 or f64, not {}; bf16 activations need a GPU",
              tensor::dtype_name(dtype));
  __builtin_unreachable();
}

}  // namespace fairway::ops::cpu
