#include "cuda/gemm_plan.h"

#include "fairway/base/error.h"

namespace fairway::ops::cuda {
namespace {

cudaDataType_t data_type(tensor::DType t) {
  base::check(t == tensor::DType::f32 || t == tensor::DType::bf16,
              "a product on a GPU takes f32 or bf16, not {}", tensor::dtype_name(t));
  return t == tensor::DType::bf16 ? CUDA_R_16BF : CUDA_R_32F;
}

void set(cublasLtMatmulDesc_t desc, cublasLtMatmulDescAttributes_t attribute, cublasOperation_t value) {
  check_cublas(gemm_library().desc_set(desc, attribute, &value, sizeof value), "cannot describe a product");
}

void layout(cublasLtMatrixLayout_t& l, tensor::DType t, std::int64_t rows, std::int64_t columns,
            std::int64_t batches, std::int64_t stride) {
  const auto& lib = gemm_library();
  check_cublas(lib.layout_create(&l, data_type(t), static_cast<std::uint64_t>(rows),
                                 static_cast<std::uint64_t>(columns), rows),
               "cannot describe a matrix");
  if (batches == 1) return;
  const auto count = static_cast<std::int32_t>(batches);
  check_cublas(lib.layout_set(l, CUBLASLT_MATRIX_LAYOUT_BATCH_COUNT, &count, sizeof count),
               "cannot describe a batch");
  check_cublas(lib.layout_set(l, CUBLASLT_MATRIX_LAYOUT_STRIDED_BATCH_OFFSET, &stride, sizeof stride),
               "cannot describe a batch");
}

}  // namespace

void check_cublas(cublasStatus_t status, std::string_view what) {
  if (status == CUBLAS_STATUS_SUCCESS) return;
  base::fail("{}: {}", what, gemm_library().status_text(status));
}

GemmPlan::GemmPlan(const Gemm& p) : alignment(p.alignment) {
  check_cublas(gemm_library().desc_create(&desc, CUBLAS_COMPUTE_32F, CUDA_R_32F),
               "cannot describe a product");
  set(desc, CUBLASLT_MATMUL_DESC_TRANSA, p.transpose_b ? CUBLAS_OP_T : CUBLAS_OP_N);
  set(desc, CUBLASLT_MATMUL_DESC_TRANSB, p.transpose_a ? CUBLAS_OP_T : CUBLAS_OP_N);
  layout(b, p.operands, p.transpose_b ? p.k : p.n, p.transpose_b ? p.n : p.k, p.batches, p.strides.b);
  layout(a, p.operands, p.transpose_a ? p.m : p.k, p.transpose_a ? p.k : p.m, p.batches, p.strides.a);
  layout(c, p.result, p.n, p.m, p.batches, p.strides.c);
  layout(d, p.result, p.n, p.m, p.batches, p.strides.d);
}

GemmPlan::~GemmPlan() {
  const auto& lib = gemm_library();
  for (cublasLtMatrixLayout_t l : {a, b, c, d})
    if (l) lib.layout_destroy(l);
  if (desc) lib.desc_destroy(desc);
}

}  // namespace fairway::ops::cuda
