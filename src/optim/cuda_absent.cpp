// Builds without the CUDA backend. No object can be made, so that nothing but the constructors is ever
// called.
#include "fairway/base/error.h"
#include "fairway/optim/device_adapter.h"
#include "fairway/optim/device_optimizer.h"

namespace fairway::optim {
namespace {

[[noreturn]] void refuse() {
  base::fail_input("updates on a GPU: this build has no CUDA backend; use --device cpu");
}

}  // namespace

struct DeviceOptimizer::Parts {};

DeviceOptimizer::DeviceOptimizer(const OptimizerConfig&, const ParameterMap&, tensor::View, tensor::View,
                                 const DeviceAverages&, ops::cuda::State&) {
  refuse();
}
DeviceOptimizer::~DeviceOptimizer() = default;
DeviceOptimizer::DeviceOptimizer(DeviceOptimizer&&) noexcept = default;
StepReport DeviceOptimizer::prepare(const Progress&, EmaStep) { refuse(); }
void DeviceOptimizer::enqueue() { refuse(); }
void DeviceOptimizer::enqueue_zero_gradients() { refuse(); }
void DeviceOptimizer::enqueue_swa_add() { refuse(); }
void DeviceOptimizer::enqueue_squares() { refuse(); }
std::vector<double> DeviceOptimizer::square_sums() { refuse(); }
void DeviceOptimizer::enqueue_clear_flag() { refuse(); }
void DeviceOptimizer::enqueue_report(int) { refuse(); }
GradientNorm DeviceOptimizer::report(int) { refuse(); }
void DeviceOptimizer::round_to_storage() { refuse(); }
std::int64_t DeviceOptimizer::swa_count() { refuse(); }
std::int64_t DeviceOptimizer::ema_count() { refuse(); }
void DeviceOptimizer::ema(std::span<float>) { refuse(); }
void DeviceOptimizer::swa_mean(std::span<float>) { refuse(); }
std::vector<DeviceStateBuffer> DeviceOptimizer::state() const { refuse(); }
std::vector<SavedState> DeviceOptimizer::save() { refuse(); }
void DeviceOptimizer::restore(std::string_view, std::span<const std::byte>) { refuse(); }
const OptimizerConfig& DeviceOptimizer::config() const noexcept {
  static const OptimizerConfig none;
  return none;
}
std::size_t DeviceOptimizer::device_bytes() const noexcept { return 0; }
std::vector<DeviceWork> DeviceOptimizer::work() const { refuse(); }
std::vector<DeviceWork> DeviceOptimizer::measure(int) { refuse(); }

struct DeviceAdapter::Parts {};

DeviceAdapter::DeviceAdapter(const RangeOptimizerConfig&, const std::vector<OptimizedRange>&, tensor::View,
                             tensor::View, ops::cuda::State&) {
  refuse();
}
DeviceAdapter::~DeviceAdapter() = default;
DeviceAdapter::DeviceAdapter(DeviceAdapter&&) noexcept = default;
void DeviceAdapter::prepare(double) { refuse(); }
void DeviceAdapter::enqueue() { refuse(); }
void DeviceAdapter::enqueue_clear_flag() { refuse(); }
void DeviceAdapter::enqueue_reset() { refuse(); }
void DeviceAdapter::enqueue_report(int) { refuse(); }
GradientNorm DeviceAdapter::report(int) { refuse(); }
std::vector<DeviceStateBuffer> DeviceAdapter::state() const { refuse(); }
std::vector<SavedState> DeviceAdapter::save() { refuse(); }
void DeviceAdapter::restore(std::string_view, std::span<const std::byte>) { refuse(); }

}  // namespace fairway::optim
