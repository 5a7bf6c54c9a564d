#pragma once
// The product driver, compiled once: oneDNN chooses its own instructions. What touches elements comes from
// the instruction set's build.

#include "fairway/ops/operator.h"

namespace fairway::ops::cpu {

/// Element-wise helpers of one build.
struct ProductHelpers {
  void (*to_bf16)(const float* from, tensor::bf16* to, std::int64_t count);
  void (*round_to_bf16)(const float* from, float* to, std::int64_t count);
  void (*add)(const float* from, float* to, std::int64_t count);  ///< to += from
};
void run_matmul(const KernelArgs& args, const ProductHelpers& helpers);
void run_linear_add(const KernelArgs& args, const ProductHelpers& helpers);

}  // namespace fairway::ops::cpu
