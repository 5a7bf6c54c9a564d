#pragma once
// Tables and state in device memory.

#include <cuda_runtime_api.h>

#include <initializer_list>
#include <string_view>
#include <vector>

#include "fairway/ops/cuda.h"
#include "fairway/tensor/buffer.h"
#include "fairway/tensor/cuda.h"

namespace fairway::optim::cuda {

/// Throws when a launch since the last call was refused: "WHAT: TEXT (NAME)".
void launched(std::string_view what);

inline cudaStream_t stream_of(const ops::cuda::State& state) {
  return static_cast<cudaStream_t>(state.stream());
}

/// Device memory for `count` zeroed T; never null.
template <class T>
tensor::Buffer device_array(const ops::cuda::State& state, std::int64_t count) {
  return {state.device(), static_cast<std::size_t>(count > 0 ? count : 1) * sizeof(T)};
}
template <class T>
T* data_of(const tensor::Buffer& buffer) {
  return reinterpret_cast<T*>(buffer.data());
}
/// A table that the host made, in device memory.
template <class T>
tensor::Buffer device_table(const ops::cuda::State& state, const std::vector<T>& entries) {
  auto buffer = device_array<T>(state, static_cast<std::int64_t>(entries.size()));
  tensor::copy_bytes(state.device(), buffer.data(), {}, entries.data(), entries.size() * sizeof(T));
  return buffer;
}

/// Bytes of all of them.
inline std::size_t bytes_of(std::initializer_list<const tensor::Buffer*> buffers) {
  std::size_t sum = 0;
  for (const auto* buffer : buffers) sum += buffer->bytes();
  return sum;
}

/// The next multiple, so that places in arrays of state suit 16-byte accesses (64 bytes of fp32).
inline std::int64_t padded(std::int64_t n, std::int64_t multiple = 16) {
  return (n + multiple - 1) / multiple * multiple;
}

}  // namespace fairway::optim::cuda
