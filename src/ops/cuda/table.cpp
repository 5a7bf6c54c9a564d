#include "cuda/table.h"

#include "kernels.h"

namespace fairway::ops::cuda {

ops::cpu::KernelTable kernel_table() {
  static constexpr KernelEntry entries[] = {
#define OPERATOR(name, ...) {#name, name},
#define GPU_OPERATOR(name, ...) {#name, name},
#include "operators.inc"
#undef OPERATOR
#undef GPU_OPERATOR
  };
  return {entries, static_cast<int>(std::size(entries))};
}

}  // namespace fairway::ops::cuda
