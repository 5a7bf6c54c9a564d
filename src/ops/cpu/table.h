#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops::cpu {

/// The kernels of one instruction set.
struct KernelTable {
  const KernelEntry* entries = nullptr;
  int count = 0;
};

namespace scalar {
KernelTable kernel_table();
}
namespace avx2 {
KernelTable kernel_table();
}
namespace avx512 {
KernelTable kernel_table();
}

}  // namespace fairway::ops::cpu
