#pragma once
#include <cstdint>
#include <functional>
#include <memory>

namespace fairway::base {

/// A fixed set of threads that share out index ranges. Which thread runs an index is not determined; kernels
/// cut their work by shape alone and write disjoint results, so the thread count never changes a result.
class ThreadPool {
 public:
  /// `threads` counts the calling thread; 0: one for each core that this process may use.
  explicit ThreadPool(int threads = 0);
  ~ThreadPool();
  ThreadPool(const ThreadPool&) = delete;
  ThreadPool& operator=(const ThreadPool&) = delete;

  int threads() const noexcept;
  /// Calls body(i) once for each i in [0, count), on any thread, and returns when all are done. The first
  /// exception is rethrown here (indices not yet started are then dropped). One run at a time: a body must
  /// not call run on the same pool, nor may two threads.
  void run(std::int64_t count, const std::function<void(std::int64_t)>& body);
  /// Runs so far with an index for each of several threads.
  std::int64_t shared_runs() const noexcept;
  /// Index of the calling thread in [0, threads()): 0 for the thread that called run. For scratch memory
  /// only.
  static int thread_index() noexcept;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// Cores this process may use (affinity mask and cgroup quota counted).
int available_cores();

}  // namespace fairway::base
