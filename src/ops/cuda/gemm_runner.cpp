#include "cuda/gemm_runner.h"

#include <algorithm>
#include <cstring>

#include "cuda/gemm_table.h"
#include "fairway/base/error.h"

namespace fairway::ops::cuda {
namespace {

constexpr std::size_t workspace_bytes = 32 << 20;  // what NVIDIA recommends for Hopper

std::string current_gpu() {
  int device = 0;
  cudaDeviceProp properties{};
  if (cudaGetDevice(&device) != cudaSuccess || cudaGetDeviceProperties(&properties, device) != cudaSuccess) {
    cudaGetLastError();
    return {};
  }
  return properties.name;
}

}  // namespace

GemmRunner::GemmRunner() : gpu_(current_gpu()) {
  const auto& lib = gemm_library();
  if (!lib.problem.empty()) base::fail_input("{}", lib.problem);
  version_ = lib.version();
  check_cublas(lib.create(&handle_), "cannot start cuBLASLt");
  if (cudaMalloc(&workspace_, workspace_bytes) != cudaSuccess) {
    cudaGetLastError();
    lib.destroy(handle_);
    base::fail("cannot allocate the workspace of matrix products (32 MiB)");
  }
}

GemmRunner::~GemmRunner() {
  plans_.clear();
  cudaFree(workspace_);
  gemm_library().destroy(handle_);
}

std::vector<std::pair<Gemm, float>> GemmRunner::gemms() const {
  std::vector<std::pair<Gemm, float>> all;
  for (const auto& [gemm, plan] : plans_) all.emplace_back(gemm, plan->beta);
  return all;
}

std::vector<cublasLtMatmulAlgo_t> GemmRunner::suggest(const GemmPlan& plan, int most) const {
  const auto& lib = gemm_library();
  cublasLtMatmulPreference_t preference = nullptr;
  check_cublas(lib.preference_create(&preference), "cannot ask for a product's algorithm");
  const std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>,
                        cublasStatus_t (*)(cublasLtMatmulPreference_t)>
      owner(preference, lib.preference_destroy);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check_cublas(lib.preference_set(preference, attribute, &value, sizeof value),
                 "cannot ask for a product's algorithm");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  // Split-K only through partial results in the workspace, joined in order; never by adding into d.
  const std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(attribute, plan.alignment);
  std::vector<cublasLtMatmulHeuristicResult_t> found(static_cast<std::size_t>(most));
  int count = 0;
  const auto status = lib.heuristic(handle_, plan.desc, plan.b, plan.a, plan.c, plan.d, preference, most,
                                    found.data(), &count);
  std::vector<cublasLtMatmulAlgo_t> usable;
  for (int i = 0; status == CUBLAS_STATUS_SUCCESS && i < count; ++i)
    if (found[static_cast<std::size_t>(i)].state == CUBLAS_STATUS_SUCCESS)
      usable.push_back(found[static_cast<std::size_t>(i)].algo);
  return usable;
}

bool GemmRunner::take_tuned(const Gemm& p, GemmPlan& plan) const {
  const auto* entry = find_tuned(version_, gpu_, p);
  if (!entry) return false;
  static_assert(sizeof entry->algorithm == sizeof plan.algorithm);
  std::memcpy(&plan.algorithm, entry->algorithm, sizeof plan.algorithm);
  cublasLtMatmulHeuristicResult_t result{};
  return gemm_library().algorithm_check(handle_, plan.desc, plan.b, plan.a, plan.c, plan.d, &plan.algorithm,
                                        &result) == CUBLAS_STATUS_SUCCESS &&
         result.state == CUBLAS_STATUS_SUCCESS && result.workspaceSize <= workspace_bytes;
}

GemmPlan& GemmRunner::plan(const Gemm& p) {
  auto& entry = plans_[p];
  if (entry) return *entry;
  auto plan = std::make_unique<GemmPlan>(p);
  if (!take_tuned(p, *plan)) {
    const auto found = suggest(*plan, 8);
    if (found.empty())
      base::fail("cuBLASLt has no algorithm for {} products of {} x {} x {}", p.batches, p.m, p.n, p.k);
    plan->algorithm = found.front();
  }
  entry = std::move(plan);
  return *entry;
}

bool GemmRunner::try_algorithm(cudaStream_t stream, const GemmPlan& plan,
                               const cublasLtMatmulAlgo_t& algorithm, float alpha, const void* a,
                               const void* b, float beta, const void* c, void* d) const {
  return gemm_library().matmul(handle_, plan.desc, &alpha, b, plan.b, a, plan.a, &beta, c, plan.c, d, plan.d,
                               &algorithm, workspace_, workspace_bytes, stream) == CUBLAS_STATUS_SUCCESS;
}

void GemmRunner::multiply(cudaStream_t stream, const Gemm& p, float alpha, const void* a, const void* b,
                          float beta, const void* c, void* d) {
  auto& plan = this->plan(p);
  plan.beta = beta;
  check_cublas(gemm_library().matmul(handle_, plan.desc, &alpha, b, plan.b, a, plan.a, &beta, c, plan.c, d,
                                     plan.d, &plan.algorithm, workspace_, workspace_bytes, stream),
               "a matrix product failed");
}

}  // namespace fairway::ops::cuda
