#include "fairway/tensor/device.h"

#include <fmt/format.h>

#include <charconv>

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

}  // namespace fairway::tensor
