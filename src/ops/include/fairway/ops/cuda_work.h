#pragma once
// Ordering, recording and timing of a State's queue of work, for the layers that run programs. Declared in
// every build; without the CUDA backend nothing of it can be made (there is no State to make it with).

#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "fairway/ops/cuda.h"

namespace fairway::ops::cuda {

/// Queues a copy to the device. Pageable memory is read before the call returns; pinned memory (PinnedBuffer)
/// must stay as it is until the copy is done.
void upload(State& state, void* device, const void* host, std::size_t bytes);
/// Queues a copy to the host; only pinned memory is filled without holding up the caller.
void download(State& state, void* host, const void* device, std::size_t bytes);
/// Queues a copy within the device, and zeros.
void copy_on_device(State& state, void* to, const void* from, std::size_t bytes);
void zero_on_device(State& state, void* data, std::size_t bytes);

/// Host memory that the device reads and writes directly; zeroed.
class PinnedBuffer {
 public:
  PinnedBuffer() = default;
  explicit PinnedBuffer(std::size_t bytes);
  ~PinnedBuffer();
  PinnedBuffer(PinnedBuffer&& other) noexcept;
  PinnedBuffer& operator=(PinnedBuffer&& other) noexcept;
  std::byte* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }
  template <class T>
  std::span<T> span() const {
    return {reinterpret_cast<T*>(data_), bytes_ / sizeof(T)};
  }

 private:
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// A point in the queue that the host can wait for.
class Event {
 public:
  Event() : Event(false) {}
  explicit Event(bool timed);
  ~Event();
  Event(Event&& other) noexcept;
  Event& operator=(Event&& other) noexcept;
  void record(State& state);
  void wait() const;  ///< until the work before the last record is done; at once when there was none
  /// From `earlier` to this one, both timed and recorded; waits.
  double seconds_since(const Event& earlier) const;

 private:
  [[maybe_unused]] void* event_ = nullptr;  // cudaEvent_t
  [[maybe_unused]] bool recorded_ = false;
};

/// Queued work, recorded once and replayed as a whole: one call of the host instead of hundreds. `queue` is
/// called by the constructor and must only queue work on the state's stream; every kernel must have run once
/// before (loading one is not recorded).
class Recording {
 public:
  Recording(State& state, const std::function<void()>& queue);
  ~Recording();
  Recording(const Recording&) = delete;
  Recording& operator=(const Recording&) = delete;
  void replay();

 private:
  [[maybe_unused]] State& state_;
  [[maybe_unused]] void* graph_ = nullptr;  // cudaGraphExec_t
};

/// A named range on the timeline of a profiler (NVTX), from construction to destruction.
class ProfilerRange {
 public:
  explicit ProfilerRange(const char* name);
  ~ProfilerRange();
  ProfilerRange(const ProfilerRange&) = delete;
  ProfilerRange& operator=(const ProfilerRange&) = delete;
};

}  // namespace fairway::ops::cuda
