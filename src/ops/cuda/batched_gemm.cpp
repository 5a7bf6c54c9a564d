#include "cuda/gemm_library.h"
#include "cuda/state.h"
#include "fairway/base/error.h"
#include "fairway/ops/cuda_gemm.h"

namespace fairway::ops::cuda {
namespace {

std::uintptr_t bytes(std::int64_t stride, tensor::DType dtype) {
  return static_cast<std::uintptr_t>(stride) * tensor::size_of(dtype);
}

}  // namespace

void multiply(State& state, const BatchedGemm& p, const void* a, const void* b, const void* c, void* d) {
  base::check(p.m >= 0 && p.n >= 0 && p.k > 0 && p.batches >= 0, "a product of {} x {} x {}, {} times", p.m,
              p.n, p.k, p.batches);
  base::check(c != nullptr || p.beta == 0.0f, "a product that adds to nothing");
  if (p.m == 0 || p.n == 0 || p.batches == 0) return;
  const bool in_place = c == nullptr || c == d;
  const BatchStrides strides{p.stride_a, p.stride_b, in_place ? p.stride_d : p.stride_c, p.stride_d};
  base::check(c != d || p.stride_c == p.stride_d, "a product in place with two strides: {} and {}",
              p.stride_c, p.stride_d);
  Gemm gemm{.m = p.m,
            .n = p.n,
            .k = p.k,
            .transpose_a = p.transpose_a,
            .transpose_b = p.transpose_b,
            .in_place = in_place,
            .operands = p.operands,
            .result = p.result,
            .batches = p.batches,
            .strides = p.batches > 1 ? strides : BatchStrides{}};
  gemm.alignment = common_alignment({address(a), address(b), address(c), address(d),
                                     bytes(gemm.strides.a, p.operands), bytes(gemm.strides.b, p.operands),
                                     bytes(gemm.strides.c, p.result), bytes(gemm.strides.d, p.result)});
  auto& impl = state.impl();
  impl.gemm_runner().multiply(impl.stream, gemm, p.alpha, a, b, p.beta, in_place ? d : c, d);
}

}  // namespace fairway::ops::cuda
