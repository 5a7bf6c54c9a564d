#include "fairway/ops/registry.h"

#include "cuda/table.h"
#include "table.h"

#include <algorithm>
#include <map>

namespace fairway::ops {
namespace {

cpu::KernelTable table_of(base::Isa isa) {
#ifdef FAIRWAY_X86_KERNELS
  if (isa >= base::Isa::avx512) return cpu::avx512::kernel_table();
  if (isa == base::Isa::avx2) return cpu::avx2::kernel_table();
#else
  (void)isa;
#endif
  return cpu::scalar::kernel_table();
}

}  // namespace

Kernel find_kernel(std::string_view op, const tensor::Device& device, base::Isa isa) {
  const auto table = device.is_cuda() ? cuda::kernel_table() : table_of(isa);
  base::check(table.count > 0, "no kernels for {} in this build (operator '{}')", device.str(), op);
  for (int i = 0; i < table.count; ++i)
    if (table.entries[i].op == op) return table.entries[i].kernel;
  base::check(false, "operator '{}' has no {} kernel", op, device.is_cuda() ? "CUDA" : base::isa_name(isa));
  return nullptr;
}

std::vector<int> activation_inputs(std::string_view op) {
  static const std::map<std::string_view, std::vector<int>> inputs = {
#define OPERATOR(name, ...) {#name, {__VA_ARGS__}},
#define GPU_OPERATOR(name, ...) {#name, {__VA_ARGS__}},
#include "operators.inc"
#undef OPERATOR
#undef GPU_OPERATOR
  };
  const auto found = inputs.find(op);
  base::check(found != inputs.end(), "operator '{}' is not registered", op);
  return found->second;
}

std::vector<std::string_view> cpu_kernel_names() {
  const auto table = cpu::scalar::kernel_table();
  std::vector<std::string_view> names;
  for (int i = 0; i < table.count; ++i) names.push_back(table.entries[i].op);
  std::ranges::sort(names);
  return names;
}

}  // namespace fairway::ops
