#include "cpu/table.h"

#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

KernelTable kernel_table() {
  static constexpr KernelEntry entries[] = {
      {"matmul", matmul},
      {"leaky_square", leaky_square},
      {"leaky_square_backward", leaky_square_backward},
  };
  return {entries, static_cast<int>(sizeof entries / sizeof entries[0])};
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
