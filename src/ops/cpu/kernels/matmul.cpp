#include "cpu/matmul.h"

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

}  // namespace

void matmul(const KernelArgs& args) { run_matmul(args, {to_bf16, round_to_bf16, add_to}); }
void linear_add(const KernelArgs& args) { run_linear_add(args, {to_bf16, round_to_bf16, add_to}); }

}  // namespace fairway::ops::cpu::FAIRWAY_ISA
