#include "fairway/tensor/device.h"

#include <fmt/format.h>

#include <charconv>

#include "fairway/base/error.h"
#include "fairway/tensor/cuda.h"

namespace fairway::tensor {

std::string Device::str() const { return is_cuda() ? fmt::format("cuda:{}", index) : "cpu"; }

std::optional<Device> parse_device(std::string_view name) {
  if (name == "cpu") return Device{};
  if (name == "cuda") return Device{DeviceKind::cuda, 0};
  constexpr std::string_view prefix = "cuda:";
  if (!name.starts_with(prefix)) return std::nullopt;
  name.remove_prefix(prefix.size());
  int index = -1;
  const auto [end, error] = std::from_chars(name.data(), name.data() + name.size(), index);
  if (error != std::errc{} || end != name.data() + name.size() || index < 0) return std::nullopt;
  return Device{DeviceKind::cuda, index};
}

CudaDeviceInfo cuda_device(const Device& device) {
  const auto all = cuda_devices();
  if (all.empty())
    base::fail_input("{} cannot be used: {}; use --device cpu", device.str(), cuda_unavailable_reason());
  if (device.index >= static_cast<int>(all.size()))
    base::fail_input("there is no {}: this machine has {} GPU(s), numbered from 0", device.str(), all.size());
  return all[static_cast<std::size_t>(device.index)];
}

std::string CudaDeviceInfo::problem() const {
  if (capability_major == 9 && capability_minor == 0) return {};
  return fmt::format("{} has compute capability {}.{}, kernels are compiled for 9.0 (Hopper) alone", name,
                     capability_major, capability_minor);
}

}  // namespace fairway::tensor
