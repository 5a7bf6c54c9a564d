#pragma once
// cuBLASLt, loaded when the first product needs it, so that the program starts on machines without it.

#include <cublasLt.h>

#include <cstdint>
#include <map>
#include <memory>
#include <string>

#include "cuda/launch.h"

namespace fairway::ops::cuda {

/// The few functions that we call.
struct ProductLibrary {
  decltype(&cublasLtCreate) create = nullptr;
  decltype(&cublasLtDestroy) destroy = nullptr;
  decltype(&cublasLtGetVersion) version = nullptr;
  decltype(&cublasLtGetStatusString) status_text = nullptr;
  decltype(&cublasLtMatmulDescCreate) desc_create = nullptr;
  decltype(&cublasLtMatmulDescDestroy) desc_destroy = nullptr;
  decltype(&cublasLtMatmulDescSetAttribute) desc_set = nullptr;
  decltype(&cublasLtMatrixLayoutCreate) layout_create = nullptr;
  decltype(&cublasLtMatrixLayoutDestroy) layout_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceCreate) preference_create = nullptr;
  decltype(&cublasLtMatmulPreferenceDestroy) preference_destroy = nullptr;
  decltype(&cublasLtMatmulPreferenceSetAttribute) preference_set = nullptr;
  decltype(&cublasLtMatmulAlgoGetHeuristic) heuristic = nullptr;
  decltype(&cublasLtMatmul) matmul = nullptr;
  std::string problem;  ///< why it is not there; else empty

  ProductLibrary();
};
/// Loaded once, at the first call; stays until the process ends.
const ProductLibrary& product_library();

/// A row-major product c = op(a) op(b) (+ c).
struct Product {
  std::int64_t m = 0, n = 0, k = 0;
  bool transpose_a = false, transpose_b = false, add = false;
  Storage operands = Storage::f32, result = Storage::f32;
  std::uint32_t alignment = 256;  ///< of all three pointers, in bytes
  auto operator<=>(const Product&) const = default;
};

/// The products of one stream. Each shape's algorithm is the first that the library suggests whose sums have
/// a fixed order (no split-K that adds into the result); it depends on shape, GPU and library version alone.
class ProductMaker {
 public:
  ProductMaker();
  ~ProductMaker();
  ProductMaker(const ProductMaker&) = delete;
  ProductMaker& operator=(const ProductMaker&) = delete;
  void multiply(cudaStream_t stream, const Product& product, const void* a, const void* b, void* c);

 private:
  struct Plan;
  Plan& plan(const Product& product);
  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::map<Product, std::unique_ptr<Plan>> plans_;
};

}  // namespace fairway::ops::cuda
