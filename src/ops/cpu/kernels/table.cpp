#include "cpu/table.h"

#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

KernelTable kernel_table() {
  static constexpr KernelEntry entries[] = {
#define OPERATOR(name, ...) {#name, name},
#define GPU_OPERATOR(...)
#include "operators.inc"
#undef OPERATOR
#undef GPU_OPERATOR
  };
  return {entries, static_cast<int>(std::size(entries))};
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
