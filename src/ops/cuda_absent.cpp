// Builds without the CUDA backend.
#include "cuda/table.h"
#include "fairway/base/error.h"
#include "fairway/ops/cuda.h"
#include "fairway/ops/cuda_products.h"

namespace fairway::ops::cuda {

struct State::Parts {
  tensor::Device device;
};

State::State(tensor::Device device) {
  base::fail_input("{} cannot be used: this build has no CUDA backend; use --device cpu", device.str());
}
State::~State() = default;
const tensor::Device& State::device() const noexcept { return parts_->device; }
void* State::stream() const noexcept { return nullptr; }
void State::make_current() const {}
void State::synchronize() {}

std::string products_unavailable_reason() { return "this build has no CUDA backend"; }
std::size_t products_library_version() { return 0; }

void multiply(State&, const BatchedProduct&, const void*, const void*, const void*, void*) {
  base::fail_input("this build has no CUDA backend");
}

ops::cpu::KernelTable kernel_table() { return {}; }

}  // namespace fairway::ops::cuda
