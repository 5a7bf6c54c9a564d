#pragma once
// What kernels on a GPU need beside their arguments. Declared in every build; without the CUDA backend a
// State cannot be made.

#include <memory>
#include <string>

#include "fairway/tensor/device.h"

namespace fairway::ops::cuda {

/// One GPU and one stream of work on it: the stream, the matrix-product library with the algorithms chosen so
/// far and its workspace, and the record of indices that kernels found out of range. Context::cuda and
/// Context::stream of every call come from here. Used by one thread at a time.
class State {
 public:
  /// Makes `device` current on this thread. Throws bad input when it cannot be used.
  explicit State(tensor::Device device);
  ~State();
  State(const State&) = delete;
  State& operator=(const State&) = delete;

  const tensor::Device& device() const noexcept;
  void* stream() const noexcept;  ///< cudaStream_t
  /// Makes the device current on the calling thread; kernels run only where it is.
  void make_current() const;
  /// Waits for the queued work. Throws when it failed, and when a kernel found an index out of range since
  /// the last call (the CPU kernels throw at once; here kernels go on with index 0).
  void synchronize();
  /// Kernels launched from now on add up in a fixed order (as at first), so that results are the same in
  /// every run, or as it comes. Only for measuring what the order costs; work already recorded keeps its way.
  void set_deterministic(bool ordered) noexcept;

  struct Impl;  ///< seen by the kernels' host side
  Impl& impl() noexcept { return *impl_; }

 private:
  std::unique_ptr<Impl> impl_;
};

/// Empty when matrix products can run on a GPU; else one line that says which library is missing and how to
/// get it.
std::string gemm_unavailable_reason();
/// Version of the product library found and of the one that this was built with, as it counts them (130100
/// is 13.1.0); 0: none.
std::size_t gemm_library_version();
std::size_t gemm_library_built_version();

}  // namespace fairway::ops::cuda
