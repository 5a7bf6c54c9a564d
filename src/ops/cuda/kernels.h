#pragma once
// The kernels of the CUDA backend, by the names of their operators.

#include "fairway/ops/operator.h"

namespace fairway::ops::cuda {

#define OPERATOR(name, ...) void name(const KernelArgs&);
#define GPU_OPERATOR(name, ...) void name(const KernelArgs&);
#include "operators.inc"
#undef OPERATOR
#undef GPU_OPERATOR

}  // namespace fairway::ops::cuda
