#include "cuda/product_library.h"

#include <dlfcn.h>

#include "fairway/base/error.h"

namespace fairway::ops::cuda {
namespace {

constexpr std::size_t workspace_bytes = 32 << 20;  // what NVIDIA recommends for Hopper
constexpr int most_suggestions = 8;

void check(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  base::fail("{}: {}", what, product_library().status_text(status));
}

cudaDataType_t data_type(Storage s) { return s == Storage::bf16 ? CUDA_R_16BF : CUDA_R_32F; }

}  // namespace

ProductLibrary::ProductLibrary() {
  const std::string versioned = fmt::format("libcublasLt.so.{}", CUBLAS_VER_MAJOR);
  void* library = nullptr;
  // Beside what the loader finds: where the toolkit's installer puts it.
  for (const std::string& name : {versioned, "/usr/local/cuda/lib64/" + versioned}) {
    library = dlopen(name.c_str(), RTLD_NOW | RTLD_LOCAL);
    if (library) break;
    if (problem.empty()) problem = dlerror();
  }
  if (!library) {
    problem = fmt::format(
        "matrix products on a GPU need {} of CUDA {} ({}); install the toolkit or its package libcublas, or "
        "add the "
        "library's folder to LD_LIBRARY_PATH",
        versioned, CUBLAS_VER_MAJOR, problem);
    return;
  }
  problem.clear();
  const auto find = [&](auto& function, const char* name) {
    function = reinterpret_cast<std::remove_reference_t<decltype(function)>>(dlsym(library, name));
    if (!function && problem.empty()) problem = fmt::format("{} has no function {}", versioned, name);
  };
  find(create, "cublasLtCreate");
  find(destroy, "cublasLtDestroy");
  find(version, "cublasLtGetVersion");
  find(status_text, "cublasLtGetStatusString");
  find(desc_create, "cublasLtMatmulDescCreate");
  find(desc_destroy, "cublasLtMatmulDescDestroy");
  find(desc_set, "cublasLtMatmulDescSetAttribute");
  find(layout_create, "cublasLtMatrixLayoutCreate");
  find(layout_destroy, "cublasLtMatrixLayoutDestroy");
  find(layout_set, "cublasLtMatrixLayoutSetAttribute");
  find(preference_create, "cublasLtMatmulPreferenceCreate");
  find(preference_destroy, "cublasLtMatmulPreferenceDestroy");
  find(preference_set, "cublasLtMatmulPreferenceSetAttribute");
  find(heuristic, "cublasLtMatmulAlgoGetHeuristic");
  find(matmul, "cublasLtMatmul");
}

std::uint32_t common_alignment(std::initializer_list<std::uintptr_t> addresses) {
  std::uintptr_t bits = 256;
  for (const std::uintptr_t address : addresses) bits |= address;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

const ProductLibrary& product_library() {
  static const ProductLibrary library;  // constant once made; made only where a product asks for it
  return library;
}

/// What one shape needs. The library counts columns first, so our rows are its columns: it computes
/// c^T = op(b)^T op(a)^T, with b as its first operand.
struct ProductMaker::Plan {
  explicit Plan(const Product& p) {
    const auto& lib = product_library();
    check(lib.desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F), "cannot describe a product");
    const cublasOperation_t first = p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N;
    const cublasOperation_t second = p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N;
    set(CUBLASLT_MATMUL_DESC_TRANSA, first);
    set(CUBLASLT_MATMUL_DESC_TRANSB, second);
    layout(b, p.operands, p.transpose_b ? p.k : p.n, p.transpose_b ? p.n : p.k, p.batches, p.strides.b);
    layout(a, p.operands, p.transpose_a ? p.m : p.k, p.transpose_a ? p.k : p.m, p.batches, p.strides.a);
    layout(c, p.result, p.n, p.m, p.batches, p.strides.c);
    layout(d, p.result, p.n, p.m, p.batches, p.strides.d);
  }
  ~Plan() {
    const auto& lib = product_library();
    for (cublasLtMatrixLayout_t l : {a, b, c, d})
      if (l) lib.layout_destroy(l);
    if (desc) lib.desc_destroy(desc);
  }
  Plan(const Plan&) = delete;
  Plan& operator=(const Plan&) = delete;

  template <class T>
  void set(cublasLtMatmulDescAttributes_t attribute, const T& value) {
    check(product_library().desc_set(desc, attribute, &value, sizeof value), "cannot describe a product");
  }
  static void layout(cublasLtMatrixLayout_t& l, Storage s, std::int64_t rows, std::int64_t columns,
                     std::int64_t batches, std::int64_t stride) {
    const auto& lib = product_library();
    check(lib.layout_create(&l, data_type(s), static_cast<std::uint64_t>(rows),
                            static_cast<std::uint64_t>(columns), rows),
          "cannot describe a matrix");
    if (batches == 1) return;
    const auto count = static_cast<std::int32_t>(batches);
    check(lib.layout_set(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
          "cannot describe a batch");
    check(lib.layout_set(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
          "cannot describe a batch");
  }

  cublasLtMatmulDesc_t desc = nullptr;
  cublasLtMatrixLayout_t a = nullptr, b = nullptr, c = nullptr, d = nullptr;
  cublasLtMatmulAlgo_t algorithm{};
};

ProductMaker::ProductMaker() {
  const auto& lib = product_library();
  if (!lib.problem.empty()) base::fail_input("{}", lib.problem);
  check(lib.create(&handle_), "cannot start cuBLASLt");
  if (cudaMalloc(&workspace_, workspace_bytes) != cudaSuccess) {
    cudaGetLastError();
    lib.destroy(handle_);
    base::fail("cannot allocate the workspace of matrix products (32 MiB)");
  }
}

ProductMaker::~ProductMaker() {
  plans_.clear();
  cudaFree(workspace_);
  product_library().destroy(handle_);
}

ProductMaker::Plan& ProductMaker::plan(const Product& p) {
  auto& entry = plans_[p];
  if (entry) return *entry;
  const auto& lib = product_library();
  auto plan = std::make_unique<Plan>(p);
  cublasLtMatmulPreference_t preference = nullptr;
  check(lib.preference_create(&preference), "cannot ask for a product's algorithm");
  const std::unique_ptr<std::remove_pointer_t<cublasLtMatmulPreference_t>,
                        cublasStatus_t (*)(cublasLtMatmulPreference_t)>
      owner(preference, lib.preference_destroy);
  const auto set = [&](cublasLtMatmulPreferenceAttributes_t attribute, const auto& value) {
    check(lib.preference_set(preference, attribute, &value, sizeof value),
          "cannot ask for a product's algorithm");
  };
  set(CUBLASLT_MATMUL_PREF_MAX_WORKSPACE_BYTES, workspace_bytes);
  // Split-K only through partial results in the workspace, joined in order; never by adding into c.
  const std::uint32_t reductions = CUBLASLT_REDUCTION_SCHEME_COMPUTE_TYPE;
  set(CUBLASLT_MATMUL_PREF_REDUCTION_SCHEME_MASK, reductions);
  for (const auto attribute :
       {CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_A_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_B_BYTES,
        CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_C_BYTES, CUBLASLT_MATMUL_PREF_MIN_ALIGNMENT_D_BYTES})
    set(attribute, p.alignment);
  cublasLtMatmulHeuristicResult_t found[most_suggestions];
  int count = 0;
  const auto status = lib.heuristic(handle_, plan->desc, plan->b, plan->a, plan->c, plan->d, preference,
                                    most_suggestions, found, &count);
  int chosen = 0;
  while (chosen < count && found[chosen].state != CUBLAS_STATUS_SUCCESS) ++chosen;
  if (status != CUBLAS_STATUS_SUCCESS || chosen == count)
    base::fail("cuBLASLt has no algorithm for {} products of {} x {} x {} ({})", p.batches, p.m, p.n, p.k,
               lib.status_text(status));
  plan->algorithm = found[chosen].algo;
  entry = std::move(plan);
  return *entry;
}

void ProductMaker::multiply(cudaStream_t stream, const Product& p, float alpha, const void* a, const void* b,
                            float beta, const void* c, void* d) {
  const Plan& plan = this->plan(p);
  check(product_library().matmul(handle_, plan.desc, &alpha, b, plan.b, a, plan.a, &beta, c, plan.c, d,
                                 plan.d, &plan.algorithm, workspace_, workspace_bytes, stream),
        "a matrix product failed");
}

}  // namespace fairway::ops::cuda
