#include "cpu/matmul.h"

#include "cpu/kernel.h"
#include "fairway/ops/matmul.h"

#include "kernels.h"

namespace fairway::ops::cpu::FAIRWAY_ISA {
namespace {

// The compiler vectorises these loops for the instruction set of the build.

void to_bf16(const float* __restrict from, tensor::bf16* __restrict to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = tensor::to_bf16(from[i]);
}
void round_to_bf16(const float* __restrict from, float* __restrict to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] = tensor::round_to_bf16(from[i]);
}
void add_to(const float* __restrict from, float* __restrict to, std::int64_t count) {
  for (std::int64_t i = 0; i < count; ++i) to[i] += from[i];
}

/// Of each row, squares_width columns at a time.
void add_row_squares(const KernelArgs& a) {
  dispatch(a.out[0], [&](auto zero) {
    using T = decltype(zero);
    const auto columns = a.out[0].meta.shape.columns(), parts = a.out[1].meta.shape.columns();
    const T* y = a.out[0].as<const T>();
    const auto squares = out<T>(a, 1);
    for (std::int64_t row = 0; row < a.out[0].meta.shape.rows(); ++row)
      for (std::int64_t p = 0; p < parts; ++p) {
        T total = 0;
        const auto end = std::min(columns, (p + 1) * squares_width);
        for (auto i = p * squares_width; i < end; ++i) total += y[row * columns + i] * y[row * columns + i];
        squares.put(row * parts + p, total);
      }
  });
}

}  // namespace

void matmul(const KernelArgs& args) { run_matmul(args, {to_bf16, round_to_bf16, add_to}); }
void linear_add(const KernelArgs& args) {
  run_linear_add(args, {to_bf16, round_to_bf16, add_to});
  if (args.out.size() > 1 && args.out[1].data) add_row_squares(args);
}

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
