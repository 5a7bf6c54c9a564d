#include "cuda/state.h"

#include "fairway/base/error.h"
#include "fairway/tensor/cuda.h"

namespace fairway::ops::cuda {
namespace {

std::string_view what_failed(Check check) {
  switch (check) {
    case Check::gather_row:
      return "gather: row";
    case Check::rope_position:
      return "qkv_prepare: position";
    case Check::target:
      return "softcap_cross_entropy: target";
    case Check::cache_room:
      return "attention_decode: length of the cache";
    case Check::none:
      break;
  }
  return "a kernel: index";
}

}  // namespace

void check_cuda(cudaError_t status, std::string_view what) {
  if (status == cudaSuccess) return;
  cudaGetLastError();  // clears it: the next call must not report this one again
  base::fail("{}: {} ({})", what, cudaGetErrorString(status), cudaGetErrorName(status));
}

State::Impl::~Impl() {
  gemms.reset();
  if (fault) cudaFree(fault);
  if (stream) cudaStreamDestroy(stream);
}

GemmRunner& State::Impl::gemm_runner() {
  if (!gemms) gemms = std::make_unique<GemmRunner>();
  return *gemms;
}

State::State(tensor::Device device) : impl_(std::make_unique<Impl>()) {
  base::check(device.is_cuda(), "a CUDA state on {}", device.str());
  impl_->device = device;
  if (const auto problem = tensor::cuda_device(device).problem(); !problem.empty())
    base::fail_input("{} cannot be used: {}; use --device cpu", device.str(), problem);
  make_current();
  check_cuda(cudaStreamCreateWithFlags(&impl_->stream, cudaStreamNonBlocking), "cannot make a stream");
  check_cuda(cudaMalloc(reinterpret_cast<void**>(&impl_->fault), sizeof(Fault)),
             "cannot allocate on " + device.str());
  check_cuda(cudaMemset(impl_->fault, 0, sizeof(Fault)), "cannot clear memory on " + device.str());
  check_cuda(cudaDeviceSynchronize(), "cannot clear memory on " + device.str());
}
State::~State() = default;

const tensor::Device& State::device() const noexcept { return impl_->device; }
void* State::stream() const noexcept { return impl_->stream; }

void State::make_current() const {
  check_cuda(cudaSetDevice(impl_->device.index), "cannot use " + impl_->device.str());
}

void State::set_deterministic(bool ordered) noexcept { impl_->deterministic = ordered; }

void State::synchronize() {
  Fault fault{};
  check_cuda(cudaMemcpyAsync(&fault, impl_->fault, sizeof fault, cudaMemcpyDeviceToHost, impl_->stream),
             "work on " + impl_->device.str() + " failed");
  check_cuda(cudaStreamSynchronize(impl_->stream), "work on " + impl_->device.str() + " failed");
  if (!fault.taken) return;
  check_cuda(cudaMemsetAsync(impl_->fault, 0, sizeof fault, impl_->stream),
             "cannot clear the record of faults");
  base::check(false, "{} {} is outside [0, {})", what_failed(static_cast<Check>(fault.check)), fault.index,
              fault.limit);
}

std::string gemm_unavailable_reason() { return gemm_library().problem; }

std::size_t gemm_library_version() {
  const auto& lib = gemm_library();
  return lib.problem.empty() ? lib.version() : 0;
}
std::size_t gemm_library_built_version() { return CUBLAS_VERSION; }

}  // namespace fairway::ops::cuda
