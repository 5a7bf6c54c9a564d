#pragma once
// What kernels and their host side share: raw pointers and sizes, nothing of the operator classes, so that a
// kernel can be compiled and measured alone. Each launch queues its work on `Target::stream`, allocates
// nothing, synchronises nothing and can be captured. Contracts (formulas, what may be absent) stand in the
// operators' headers; pointers that may be absent are null. Sums are in fp32 in an order that the shape alone
// decides.

#include <cuda_runtime_api.h>

#include <cstdint>
#include <string_view>

#include "row_splits.h"

namespace fairway::ops::cuda {

/// Which check a kernel's index failed.
enum class Check : std::int32_t { none, gather_row, rope_position, target, cache_room };

/// The first index that any kernel found outside its range; lives on the device. Kernels go on with index 0.
struct Fault {
  std::int32_t check, index, limit, taken;
};

struct Target {
  cudaStream_t stream = nullptr;
  Fault* fault = nullptr;
};

/// An output, or nothing when nobody wants it.
struct Output {
  void* data = nullptr;
  bool add = false;  ///< add to what is there
  explicit operator bool() const { return data != nullptr; }
};

/// Throws when `status` is an error: "WHAT: TEXT (NAME)".
void check_cuda(cudaError_t status, std::string_view what);

/// elementwise.cu: to [n] bf16 = from, rounded.
void round_to_bf16(const Target&, std::int64_t n, const float* from, void* to);

/// partial.cu: result[i] = sum over splits of partial[split * stride + i], i < n; with `gate` times g (1 -
/// g), g = sigmoid(gate[i]).
void sum_partials(const Target&, const float* partial, std::int64_t splits, std::int64_t stride,
                  std::int64_t n, const float* gate, Output result);
/// result[0] = sum over everything in partial [count].
void sum_all_partials(const Target&, const float* partial, std::int64_t count, Output result);

}  // namespace fairway::ops::cuda
