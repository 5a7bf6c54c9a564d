#include "cuda/table.h"

#include "cuda/kernels.h"
#include "cuda/launch.h"

namespace fairway::ops::cuda {
namespace {

/// A kernel, and a failure where one of its launches was refused.
template <Kernel kernel>
void checked(const KernelArgs& a) {
  kernel(a);
  check_cuda(cudaGetLastError(), a.op.name());
}

}  // namespace

ops::cpu::KernelTable kernel_table() {
  static constexpr KernelEntry entries[] = {
#define OPERATOR(name, ...) {#name, checked<name>},
#define GPU_OPERATOR(name, ...) {#name, checked<name>},
#include "operators.inc"
#undef OPERATOR
#undef GPU_OPERATOR
  };
  return {entries, static_cast<int>(std::size(entries))};
}

}  // namespace fairway::ops::cuda
