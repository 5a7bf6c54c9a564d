// Builds without the CUDA backend.
#include "cuda/table.h"
#include "fairway/base/error.h"
#include "fairway/ops/cuda.h"
#include "fairway/ops/cuda_gemm.h"
#include "fairway/ops/cuda_work.h"

namespace fairway::ops::cuda {
namespace {

[[noreturn]] void refuse() { base::fail_input("this build has no CUDA backend"); }

}  // namespace

struct State::Impl {
  tensor::Device device;
};

State::State(tensor::Device device) {
  base::fail_input("{} cannot be used: this build has no CUDA backend; use --device cpu", device.str());
}
State::~State() = default;
const tensor::Device& State::device() const noexcept { return impl_->device; }
void* State::stream() const noexcept { return nullptr; }
void State::make_current() const {}
void State::synchronize() {}
void State::set_deterministic(bool) noexcept {}

std::string gemm_unavailable_reason() { return "this build has no CUDA backend"; }
std::size_t gemm_library_version() { return 0; }
std::size_t gemm_library_built_version() { return 0; }

void multiply(State&, const BatchedGemm&, const void*, const void*, const void*, void*) { refuse(); }

std::vector<TuningResult> tune_gemms(State&) { refuse(); }

void upload(State&, void*, const void*, std::size_t) { refuse(); }
void download(State&, void*, const void*, std::size_t) { refuse(); }
void copy_on_device(State&, void*, const void*, std::size_t) { refuse(); }
void zero_on_device(State&, void*, std::size_t) { refuse(); }

PinnedBuffer::PinnedBuffer(std::size_t) { refuse(); }
PinnedBuffer::~PinnedBuffer() = default;
PinnedBuffer::PinnedBuffer(PinnedBuffer&&) noexcept = default;
PinnedBuffer& PinnedBuffer::operator=(PinnedBuffer&&) noexcept = default;

Event::Event(bool) { refuse(); }
Event::~Event() = default;
Event::Event(Event&&) noexcept = default;
Event& Event::operator=(Event&&) noexcept = default;
void Event::record(State&) {}
void Event::wait() const {}
double Event::seconds_since(const Event&) const { return 0; }

Recording::Recording(State& state, const std::function<void()>&) : state_(state) { refuse(); }
Recording::~Recording() = default;
void Recording::replay() {}

ProfilerRange::ProfilerRange(const char*) {}
ProfilerRange::~ProfilerRange() = default;

ops::cpu::KernelTable kernel_table() { return {}; }

}  // namespace fairway::ops::cuda
