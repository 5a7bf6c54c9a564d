#pragma once
// One product as the library wants it described.

#include "cuda/gemm_library.h"

namespace fairway::ops::cuda {

/// Throws a failure with the library's own words.
void check_cublas(cublasStatus_t status, std::string_view what);

/// What one shape needs. The library counts columns first, so our rows are its columns: it computes
/// d^T = op(b)^T op(a)^T + c^T, with b as its first operand.
struct GemmPlan {
  explicit GemmPlan(const Gemm& p);
  ~GemmPlan();
  GemmPlan(const GemmPlan&) = delete;
  GemmPlan& operator=(const GemmPlan&) = delete;

  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr, d = nullptr;
  std::uint32_t alignment = 256;
  cublasLtMatmulAlgo_t algorithm{};
  float beta = 0;  ///< of the last call, for tuning
};

}  // namespace fairway::ops::cuda
