#include "kernels.h"
#include "square_parts.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {
constexpr SquareParts parts{matmul, linear_add, leaky_square, leaky_square_backward, scale_rows};
}

void linear_square(const KernelArgs& args) { linear_square_by_parts(args, parts); }
void square_linear_add(const KernelArgs& args) { square_linear_add_by_parts(args, parts); }
void square_linear_backward(const KernelArgs& args) { square_linear_backward_by_parts(args, parts); }

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
