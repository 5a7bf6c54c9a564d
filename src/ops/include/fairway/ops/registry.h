#pragma once
// The kernel tables of the backends.

#include "fairway/base/cpu.h"
#include "fairway/ops/operator.h"
#include "fairway/tensor/device.h"

namespace fairway::ops {

/// The kernel of `op` on a device. `isa` chooses among the CPU builds of our kernels (each is compiled for
/// scalar, AVX2 and AVX-512). Throws a check error when there is none.
Kernel find_kernel(std::string_view op, const tensor::Device& device, base::Isa isa);

/// Inputs that are activations: bf16 in a bf16 program. Check error for an operator without kernels.
std::vector<int> activation_inputs(std::string_view op);

/// All operator names with a CPU kernel, sorted; the harness walks them.
std::vector<std::string_view> cpu_kernel_names();

/// Pins the instruction set of the matrix-product library as well, for the whole process, before its first
/// product. Asking for the same again is fine; another one is a failure.
void pin_isa(base::Isa isa);

}  // namespace fairway::ops
