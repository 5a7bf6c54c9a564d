// Memory, copies and device queries through the CUDA runtime. Host code only: no kernel lives here.
#include "fairway/base/error.h"
#include "fairway/base/text.h"
#include "fairway/tensor/cuda.h"

#include <cuda_runtime_api.h>

#include <cstring>

namespace fairway::tensor {
namespace {

void check_cuda(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // clears it: the next call must not report this one again
  base::fail("{}: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status));
}

/// Makes a device current for its scope.
class OnDevice {
 public:
  explicit OnDevice(int device) {
    check_cuda(cudaGetDevice(&before_), "cannot use CUDA");
    if (device != before_) check_cuda(cudaSetDevice(device), fmt::format("cannot use cuda:{}", device));
    changed_ = device != before_;
  }
  ~OnDevice() {
    if (changed_) cudaSetDevice(before_);
  }
  OnDevice(const OnDevice&) = delete;
  OnDevice& operator=(const OnDevice&) = delete;

 private:
  int before_ = 0;
  bool changed_ = false;
};

int device_count(std::string* why_none) {
  int count = 0;
  const cudaError_t status = cudaGetDeviceCount(&count);
  if (status == cudaSuccess && count > 0) return count;
  cudaGetLastError();
  if (status == cudaSuccess || status == cudaErrorNoDevice) {
    *why_none = "no GPU found";
  } else if (status == cudaErrorInsufficientDriver && cuda_versions().driver == 0) {
    *why_none = "no NVIDIA driver";
  } else {
    *why_none = fmt::format("CUDA does not start: {}", cudaGetErrorString(status));
  }
  return 0;
}

int attribute(int device, cudaDeviceAttr which) {
  int value = 0;
  if (cudaDeviceGetAttribute(&value, which, device) != cudaSuccess) {
    cudaGetLastError();
    return 0;
  }
  return value;
}

}  // namespace

bool cuda_compiled_in() noexcept { return true; }

CudaVersions cuda_versions() noexcept {
  CudaVersions versions;
  if (cudaDriverGetVersion(&versions.driver) != cudaSuccess) versions.driver = 0;
  if (cudaRuntimeGetVersion(&versions.runtime) != cudaSuccess) versions.runtime = CUDART_VERSION;
  return versions;
}

std::vector<CudaDeviceInfo> cuda_devices() {
  std::string why_none;
  std::vector<CudaDeviceInfo> devices;
  const int count = device_count(&why_none);
  for (int index = 0; index < count; ++index) {
    cudaDeviceProp properties{};
    check_cuda(cudaGetDeviceProperties(&properties, index),
               fmt::format("cannot ask cuda:{} what it is", index));
    CudaDeviceInfo info;
    info.index = index;
    info.name = properties.name;
    info.capability_major = properties.major;
    info.capability_minor = properties.minor;
    info.multiprocessors = properties.multiProcessorCount;
    info.memory_clock_khz = attribute(index, cudaDevAttrMemoryClockRate);
    info.memory_bus_bits = attribute(index, cudaDevAttrGlobalMemoryBusWidth);
    const OnDevice current(index);
    std::size_t free_bytes = 0, total_bytes = 0;
    check_cuda(cudaMemGetInfo(&free_bytes, &total_bytes),
               fmt::format("cannot ask cuda:{} for its memory", index));
    info.free_bytes = free_bytes;
    info.memory_bytes = total_bytes;
    devices.push_back(std::move(info));
  }
  return devices;
}

std::string cuda_unavailable_reason() {
  std::string why_none;
  device_count(&why_none);
  return why_none;
}

std::byte* cuda_allocate(int device, std::size_t bytes) {
  std::string why_none;
  const int count = device_count(&why_none);
  if (count == 0) base::fail_input("cuda:{} cannot be used: {}; use --device cpu", device, why_none);
  if (device >= count) base::fail_input("there is no cuda:{}: this machine has {} GPUs", device, count);
  const OnDevice current(device);
  void* data = nullptr;
  check_cuda(cudaMalloc(&data, bytes),
             fmt::format("cannot allocate {} on cuda:{}", base::human_bytes(bytes), device));
  if (const cudaError_t status = cudaMemset(data, 0, bytes); status != cudaSuccess) {
    cudaFree(data);
    check_cuda(status, fmt::format("cannot clear memory on cuda:{}", device));
  }
  return static_cast<std::byte*>(data);
}

void cuda_release(int device, std::byte* data) noexcept {
  // At the end of the process the runtime may be gone before us; there is nobody left to tell.
  int before = device;
  cudaGetDevice(&before);
  if (before != device) cudaSetDevice(device);
  cudaFree(data);
  if (before != device) cudaSetDevice(before);
}

void copy_bytes(Device to, void* destination, Device from, const void* source, std::size_t bytes) {
  if (bytes == 0) return;
  if (!to.is_cuda() && !from.is_cuda()) {
    std::memmove(destination, source, bytes);
    return;
  }
  const OnDevice current(to.is_cuda() ? to.index : from.index);
  const auto what = [&] {
    return fmt::format("cannot copy {} from {} to {}", base::human_bytes(bytes), from.str(), to.str());
  };
  if (to.is_cuda() && from.is_cuda() && to.index != from.index) {
    check_cuda(cudaMemcpyPeer(destination, to.index, source, from.index, bytes), what());
  } else {
    const auto kind = !from.is_cuda() ? cudaMemcpyHostToDevice
                      : !to.is_cuda() ? cudaMemcpyDeviceToHost
                                      : cudaMemcpyDeviceToDevice;
    check_cuda(cudaMemcpy(destination, source, bytes, kind), what());
  }
  // Copies inside a device return before they are done.
  if (to.is_cuda()) check_cuda(cudaDeviceSynchronize(), what());
}

void zero_bytes(Device device, void* data, std::size_t bytes) {
  if (bytes == 0) return;
  if (!device.is_cuda()) {
    std::memset(data, 0, bytes);
    return;
  }
  const OnDevice current(device.index);
  check_cuda(cudaMemset(data, 0, bytes),
             fmt::format("cannot clear {} on {}", base::human_bytes(bytes), device.str()));
  check_cuda(cudaDeviceSynchronize(), fmt::format("clearing memory on {} failed", device.str()));
}

void synchronize(Device device) {
  if (!device.is_cuda()) return;
  const OnDevice current(device.index);
  check_cuda(cudaDeviceSynchronize(), fmt::format("work on {} failed", device.str()));
}

}  // namespace fairway::tensor
