#pragma once
// The matrix products of one stream.

#include <map>
#include <memory>
#include <span>
#include <vector>

#include "cuda/gemm_plan.h"

namespace fairway::ops::cuda {

/// Each shape's algorithm comes from the table of measured ones (gemm_table.h), or is the first that the
/// library suggests; always one whose sums have a fixed order (no split-K that adds into the result). It
/// depends on shape, GPU and library version alone.
class GemmRunner {
 public:
  GemmRunner();
  ~GemmRunner();
  GemmRunner(const GemmRunner&) = delete;
  GemmRunner& operator=(const GemmRunner&) = delete;
  void multiply(cudaStream_t stream, const Gemm& gemm, float alpha, const void* a, const void* b, float beta,
                const void* c, void* d);

  // For tuning.
  /// Shapes made so far, each with the beta of its last call (c is read only where that is not 0).
  std::vector<std::pair<Gemm, float>> gemms() const;
  /// Up to `most` algorithms that may be used, the library's best guess first.
  std::vector<cublasLtMatmulAlgo_t> suggest(const GemmPlan& plan, int most) const;
  /// Queues the product with this algorithm; false when it cannot.
  bool try_algorithm(cudaStream_t stream, const GemmPlan& plan, const cublasLtMatmulAlgo_t& algorithm,
                     float alpha, const void* a, const void* b, float beta, const void* c, void* d) const;
  std::size_t library_version() const noexcept { return version_; }
  const std::string& gpu() const noexcept { return gpu_; }

 private:
  GemmPlan& plan(const Gemm& gemm);
  bool take_tuned(const Gemm& gemm, GemmPlan& plan) const;

  cublasLtHandle_t handle_ = nullptr;
  void* workspace_ = nullptr;
  std::size_t version_ = 0;
  std::string gpu_;
  std::map<Gemm, std::unique_ptr<GemmPlan>> plans_;
};

}  // namespace fairway::ops::cuda
