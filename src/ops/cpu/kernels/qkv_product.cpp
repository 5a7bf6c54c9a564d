#include "kernels.h"
#include "qkv_parts.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {

void qkv_product(const KernelArgs& args) {
  constexpr QkvParts parts{matmul, qkv_prepare, scale_rows};
  qkv_product_by_parts(args, parts);
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
