#pragma once
// The operators of linear_square.h as products and activations that exist: what the CPU runs, and a GPU where
// the fused kernel does not apply.

#include "fairway/ops/operator.h"

namespace fairway::ops {

/// Shapes of the fused product on a GPU: n columns, a sum over k.
constexpr bool square_product_fits(std::int64_t n, std::int64_t k) {
  return n % 128 == 0 && n >= 128 && n <= 8192 && k % 64 == 0 && k >= 64 && k <= 512;
}

/// A backend's kernels.
struct SquareParts {
  Kernel matmul, linear_add, leaky_square, leaky_square_backward, scale_rows;
};
void linear_square_by_parts(const KernelArgs& args, const SquareParts& parts);
void square_linear_add_by_parts(const KernelArgs& args, const SquareParts& parts);
void square_linear_backward_by_parts(const KernelArgs& args, const SquareParts& parts);

}  // namespace fairway::ops
