#pragma once
// cuBLASLt, loaded when the first product needs it, so that the program starts on machines without it.

#include <cublasLt.h>

#include <cstdint>
#include <initializer_list>
#include <string>

#include "fairway/tensor/dtype.h"

namespace fairway::ops::cuda {

/// The few functions that we call.
struct GemmLibrary {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) version = nullptr;
  decltype(&cublasLtGetStatusString) status_text = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatrixLayoutSetAttribute) layout_set = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmulAlgoCheck) algorithm_check = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  std::string problem;  ///< why it is not there; else empty

  GemmLibrary();
};
/// Loaded once, at the first call; stays until the process ends.
const GemmLibrary& gemm_library();

/// Elements from one matrix of a batch to the next.
struct BatchStrides {
  std::int64_t a = 0, b = 0, c = 0, d = 0;
  auto operator<=>(const BatchStrides&) const = default;
};

/// A row-major product d = alpha op(a) op(b) + beta c, or a batch of them.
struct Gemm {
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false;
  bool in_place = true;                                                      ///< d is c
  tensor::DType operands = tensor::DType::f32, result = tensor::DType::f32;  ///< f32 or bf16
  std::uint32_t alignment = 256;  ///< of all pointers and strides, in bytes
  std::int64_t batches = 1;
  BatchStrides strides = {};
  auto operator<=>(const Gemm&) const = default;
};

/// Largest power of two, up to 256, that divides all of `addresses` (or distances in bytes).
std::uint32_t common_alignment(std::initializer_list<std::uintptr_t> addresses);
inline std::uintptr_t address(const void* p) { return reinterpret_cast<std::uintptr_t>(p); }

}  // namespace fairway::ops::cuda
