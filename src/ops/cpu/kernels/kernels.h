#pragma once
// The kernels of one build. Each reads its operator's contract from KernelArgs (see the operator's public
// header).

#include "fairway/ops/operator.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

#define OPERATOR(name, ...) void name(const KernelArgs&);
#define GPU_OPERATOR(...)
#include "operators.inc"
#undef OPERATOR
#undef GPU_OPERATOR

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
