#include "cuda/support.h"

#include <algorithm>

#include "fairway/base/error.h"

namespace fairway::optim::cuda {

void launched(std::string_view what) {
  const cudaError_t status = cudaGetLastError();
  if (status != cudaSuccess)
    base::fail("{}: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status));
}

std::vector<SavedState> save_state(ops::cuda::State& state, const std::vector<DeviceStateBuffer>& buffers) {
  state.synchronize();
  std::vector<SavedState> saved;
  for (const auto& buffer : buffers) {
    saved.push_back({buffer.name, std::vector<std::byte>(buffer.bytes)});
    tensor::copy_bytes({}, saved.back().bytes.data(), state.device(), buffer.data, buffer.bytes);
  }
  return saved;
}

void restore_state(ops::cuda::State& state, const std::vector<DeviceStateBuffer>& buffers,
                   std::string_view name, std::span<const std::byte> bytes) {
  const auto found = std::ranges::find(buffers, name, &DeviceStateBuffer::name);
  base::check(found != buffers.end(), "optimizer: no state '{}'", name);
  base::check(found->bytes == bytes.size(), "optimizer: {} bytes for {}, which has {}", bytes.size(), name,
              found->bytes);
  state.synchronize();
  tensor::copy_bytes(state.device(), found->data, {}, bytes.data(), bytes.size());
}

}  // namespace fairway::optim::cuda
