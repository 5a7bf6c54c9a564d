#pragma once
// Owners of what the CUDA runtime hands out, and tables in device memory.

#include <cuda_runtime_api.h>

#include <cstring>
#include <span>
#include <string_view>
#include <type_traits>
#include <utility>

#include "fairway/ops/cuda.h"
#include "fairway/optim/device_state.h"
#include "fairway/tensor/buffer.h"
#include "fairway/tensor/cuda.h"

namespace fairway::optim::cuda {

/// Throws when `status` is an error: "WHAT: TEXT (NAME)".
void check_cuda(cudaError_t status, std::string_view what);

inline cudaStream_t stream_of(const ops::cuda::State& state) {
  return static_cast<cudaStream_t>(state.stream());
}

/// An event without a time, or with one.
class Event {
 public:
  explicit Event(bool timed = false) {
    check_cuda(cudaEventCreateWithFlags(&event_, timed ? cudaEventDefault : cudaEventDisableTiming),
               "cannot make an event");
  }
  ~Event() {
    if (event_) cudaEventDestroy(event_);
  }
  Event(Event&& other) noexcept : event_(std::exchange(other.event_, nullptr)) {}
  Event& operator=(Event&&) = delete;
  void record(cudaStream_t stream) { check_cuda(cudaEventRecord(event_, stream), "cannot record an event"); }
  void wait() const { check_cuda(cudaEventSynchronize(event_), "work on a GPU failed"); }
  cudaEvent_t get() const noexcept { return event_; }

 private:
  cudaEvent_t event_ = nullptr;
};

/// One T in page-locked host memory, so that copies to and from it do not hold up the host.
template <class T>
class Pinned {
  static_assert(std::is_trivially_copyable_v<T>);

 public:
  Pinned() {
    void* data = nullptr;
    check_cuda(cudaMallocHost(&data, sizeof(T)), "cannot allocate page-locked memory");
    std::memset(data, 0, sizeof(T));
    value_ = static_cast<T*>(data);
  }
  ~Pinned() {
    if (value_) cudaFreeHost(value_);
  }
  Pinned(Pinned&& other) noexcept : value_(std::exchange(other.value_, nullptr)) {}
  Pinned& operator=(Pinned&&) = delete;
  T* get() const noexcept { return value_; }

 private:
  T* value_ = nullptr;
};

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
tensor::Buffer device_table(const ops::cuda::State& state, std::span<const T> entries) {
  auto buffer = device_array<T>(state, static_cast<std::int64_t>(entries.size()));
  tensor::copy_bytes(state.device(), buffer.data(), {}, entries.data(), entries.size_bytes());
  return buffer;
}

/// The next multiple, so that places in arrays of state suit 16-byte accesses (64 bytes of fp32).
inline std::int64_t padded(std::int64_t n, std::int64_t multiple = 16) {
  return (n + multiple - 1) / multiple * multiple;
}

/// Copies of all pieces; waits for the stream.
std::vector<SavedState> save_state(ops::cuda::State& state, const std::vector<DeviceStateBuffer>& buffers);
void restore_state(ops::cuda::State& state, const std::vector<DeviceStateBuffer>& buffers,
                   std::string_view name, std::span<const std::byte> bytes);

}  // namespace fairway::optim::cuda
