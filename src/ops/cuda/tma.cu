#include "tma.cuh"

namespace fairway::ops::cuda {
namespace {

using Encode = decltype(&cuTensorMapEncodeTiled);

/// The driver's encoder, looked up at run time, so that nothing links against libcuda.
cudaError_t find_encoder(Encode& encode) {
  void* found = nullptr;
  cudaDriverEntryPointQueryResult result{};
  if (const cudaError_t e = cudaGetDriverEntryPointByVersion("cuTensorMapEncodeTiled", &found, 12000,
                                                             cudaEnableDefault, &result);
      e != cudaSuccess)
    return e;
  if (result != cudaDriverEntryPointSuccess) return cudaErrorNotSupported;
  encode = reinterpret_cast<Encode>(found);
  return cudaSuccess;
}

}  // namespace

cudaError_t make_tile_map(CUtensorMap& map, const void* base, int batch, int rows, int heads, int box_rows) {
  Encode encode = nullptr;
  if (const cudaError_t e = find_encoder(encode); e != cudaSuccess) return e;
  const cuuint64_t row = 128ULL * heads;
  const cuuint64_t sizes[4] = {64, cuuint64_t(heads), cuuint64_t(rows), cuuint64_t(batch)};
  const cuuint64_t strides[3] = {128, row, row * rows};
  const cuuint32_t box[4] = {64, 1, cuuint32_t(box_rows), 1}, step[4] = {1, 1, 1, 1};
  const CUresult r = encode(&map, CU_TENSOR_MAP_DATA_TYPE_BFLOAT16, 4, const_cast<void*>(base), sizes,
                            strides, box, step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_128B,
                            CU_TENSOR_MAP_L2_PROMOTION_L2_256B, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return r == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

cudaError_t make_word_map(CUtensorMap& map, const void* base, std::int64_t words, int box) {
  Encode encode = nullptr;
  if (const cudaError_t e = find_encoder(encode); e != cudaSuccess) return e;
  const cuuint64_t size = cuuint64_t(words), stride = 4;  // no stride of one dimension is read
  const cuuint32_t boxes = cuuint32_t(box), step = 1;
  const CUresult r = encode(&map, CU_TENSOR_MAP_DATA_TYPE_INT32, 1, const_cast<void*>(base), &size, &stride,
                            &boxes, &step, CU_TENSOR_MAP_INTERLEAVE_NONE, CU_TENSOR_MAP_SWIZZLE_NONE,
                            CU_TENSOR_MAP_L2_PROMOTION_NONE, CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE);
  return r == CUDA_SUCCESS ? cudaSuccess : cudaErrorInvalidValue;
}

}  // namespace fairway::ops::cuda
