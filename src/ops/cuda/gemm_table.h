#pragma once
// Algorithms of cuBLASLt that were measured to be faster than its first suggestion, by library
// version, GPU and shape. Never chosen by timing at run time: the same program makes the same bytes.

#include <cstdint>
#include <string_view>

#include "cuda/gemm_library.h"

namespace fairway::ops::cuda {

struct TunedGemm {
  std::size_t library = 0;  ///< cublasLtGetVersion
  std::string_view gpu;     ///< as the driver names it
  Gemm gemm;
  std::uint64_t algorithm[8];  ///< cublasLtMatmulAlgo_t; checked by the library before use
};

/// The entry for this product; where only its long side (16,384 and more: tokens of a micro-batch) differs,
/// the one whose long side is nearest. Null when there is none.
const TunedGemm* find_tuned(std::size_t library, std::string_view gpu, const Gemm& gemm);

}  // namespace fairway::ops::cuda
