#pragma once
// What executes: threads, device, instruction set, progress and the stop request of one command.

#include "fairway/base/cpu.h"
#include "fairway/base/progress.h"
#include "fairway/base/thread_pool.h"
#include "fairway/graph/program.h"

#include <memory>
#include <optional>
#include <stop_token>

namespace fairway::exec {

/// None of these decides a run's bits, but for `isa` and `device` (recorded with each result).
struct ExecutionOptions {
  int threads = 0;               ///< 0: one for each core
  std::optional<base::Isa> isa;  ///< none: the best this processor has
  tensor::Device device;
  base::ProgressSink* progress = nullptr;  ///< none: silent
  std::stop_token stop;
};

/// Owns the thread pool and the GPU queue of a command. Not copyable; stages borrow it.
class Engine {
 public:
  /// Throws an input error for an instruction set this processor lacks, and for a device that is not there.
  explicit Engine(const ExecutionOptions& options);

  base::ThreadPool& pool() const noexcept { return *pool_; }
  base::Isa isa() const noexcept { return isa_; }
  const tensor::Device& device() const noexcept { return device_; }
  base::ProgressSink& progress() const noexcept { return *progress_; }
  const std::stop_token& stop() const noexcept { return stop_; }
  /// For an engine that serves several calls: the stop request of the next one.
  void set_stop(std::stop_token stop) noexcept { stop_ = std::move(stop); }
  /// Throws `interrupted` when a stop was requested.
  void throw_if_stopped() const;
  graph::Runtime runtime(tensor::DType products = tensor::DType::f32) const;
  /// The GPU's queue; null on the CPU.
  ops::cuda::State* cuda() const noexcept { return cuda_.get(); }
  void synchronize() const;  ///< waits for work queued on a GPU

 private:
  std::unique_ptr<base::ThreadPool> pool_;
  std::unique_ptr<ops::cuda::State> cuda_;
  base::Isa isa_;
  tensor::Device device_;
  base::SilentProgress silent_;
  base::ProgressSink* progress_;
  std::stop_token stop_;
};

/// Work for the queue, as a whole: on a GPU the first run launches it (which loads its kernels), the second
/// records it, from then on one call replays it. On the CPU it just runs.
class Recorded {
 public:
  Recorded() = default;
  Recorded(const Engine& engine, std::function<void()> queue)
      : state_(engine.cuda()), queue_(std::move(queue)) {}
  void run();

 private:
  ops::cuda::State* state_ = nullptr;
  std::function<void()> queue_;
  bool warm_ = false;
  std::unique_ptr<ops::cuda::Recording> recording_;
};

}  // namespace fairway::exec
