#pragma once
// What the rest of the program may ask of CUDA. Works in every build: without the CUDA backend, or on a
// machine without a GPU or driver, `cuda_devices` is empty, `cuda_unavailable_reason` says why, and memory
// functions throw.

#include "fairway/tensor/device.h"

#include <cstddef>
#include <cstdint>
#include <string>
#include <vector>

namespace fairway::tensor {

/// One GPU as the driver describes it.
struct CudaDeviceInfo {
  int index = 0;
  std::string name;                ///< "NVIDIA H100 80GB HBM3"
  std::uint64_t memory_bytes = 0;  ///< total
  std::uint64_t free_bytes = 0;    ///< at the time of the call
  int capability_major = 0, capability_minor = 0;
  int multiprocessors = 0;
  int memory_clock_khz = 0, memory_bus_bits = 0;  ///< 0 where the driver does not tell
  /// Empty when our kernels run on it: they are compiled for Hopper's own instructions (sm_90a).
  std::string problem() const;
};

/// Versions as CUDA counts them (13000 is 13.0); 0: none.
struct CudaVersions {
  int driver = 0;   ///< the newest CUDA that the installed driver supports
  int runtime = 0;  ///< the runtime that this program was built with
};

bool cuda_compiled_in() noexcept;
CudaVersions cuda_versions() noexcept;
/// GPUs that can be used; empty where there is none.
std::vector<CudaDeviceInfo> cuda_devices();
/// Empty when a GPU can be used; otherwise one line: "not compiled in", "no NVIDIA driver", "no GPU found".
std::string cuda_unavailable_reason();

/// One of them, as it is now; bad input when there is no such GPU.
CudaDeviceInfo cuda_device(const Device& device);

/// Zeroed device memory; throws a failure that names size and device when it is short. For Buffer.
std::byte* cuda_allocate(int device, std::size_t bytes);
void cuda_release(int device, std::byte* data) noexcept;

/// Copies between host and device, or within one device; returns when done. `to` and `from` say where each
/// pointer lives. Copies between two host pointers and between two GPUs work as well.
void copy_bytes(Device to, void* destination, Device from, const void* source, std::size_t bytes);
/// Sets memory of a device (or of the host) to zero; returns when done.
void zero_bytes(Device device, void* data, std::size_t bytes);
/// Waits for all work of the device.
void synchronize(Device device);

}  // namespace fairway::tensor
