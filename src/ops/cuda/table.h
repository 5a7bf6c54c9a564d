#pragma once
#include "cpu/table.h"

namespace fairway::ops::cuda {

/// The kernels of the CUDA backend; empty in builds without it.
ops::cpu::KernelTable kernel_table();

}  // namespace fairway::ops::cuda
