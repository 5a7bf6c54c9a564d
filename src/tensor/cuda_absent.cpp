// The CUDA interface of builds without the CUDA backend; cuda/device.cpp takes its place in builds with it.
#include "fairway/base/error.h"
#include "fairway/tensor/cuda.h"

#include <cstring>

namespace fairway::tensor {
namespace {

[[noreturn]] void refuse() {
  base::fail_input("this build has no CUDA backend; use --device cpu, or build with a CUDA toolkit");
}

}  // namespace

bool cuda_compiled_in() noexcept { return false; }
CudaVersions cuda_versions() noexcept { return {}; }
std::vector<CudaDeviceInfo> cuda_devices() { return {}; }
std::string cuda_unavailable_reason() { return "not compiled in"; }

std::byte* cuda_allocate(int, std::size_t) { refuse(); }
void cuda_release(int, std::byte*) noexcept {}

void copy_bytes(Device to, void* destination, Device from, const void* source, std::size_t bytes) {
  if (to.is_cuda() || from.is_cuda()) refuse();
  if (bytes > 0) std::memmove(destination, source, bytes);
}

void zero_bytes(Device device, void* data, std::size_t bytes) {
  if (device.is_cuda()) refuse();
  if (bytes > 0) std::memset(data, 0, bytes);
}

void synchronize(Device device) {
  if (device.is_cuda()) refuse();
}

}  // namespace fairway::tensor
