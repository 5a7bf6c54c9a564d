#include "cuda/gemm_library.h"

#include <dlfcn.h>

#include "fairway/base/error.h"

namespace fairway::ops::cuda {
GemmLibrary::GemmLibrary() {
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
  find(algorithm_check, "cublasLtMatmulAlgoCheck");
  find(matmul, "cublasLtMatmul");
}

std::uint32_t common_alignment(std::initializer_list<std::uintptr_t> addresses) {
  std::uintptr_t bits = 256;
  for (const std::uintptr_t address : addresses) bits |= address;
  return static_cast<std::uint32_t>(bits & (~bits + 1));
}

const GemmLibrary& gemm_library() {
  static const GemmLibrary library;  // constant once made; made only where a product asks for it
  return library;
}

}  // namespace fairway::ops::cuda
