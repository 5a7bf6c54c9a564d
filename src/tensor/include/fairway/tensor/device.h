#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace fairway::tensor {

enum class DeviceKind { cpu, cuda };

/// Where memory lives and kernels run.
struct Device {
  DeviceKind kind = DeviceKind::cpu;
  int index = 0;
  bool is_cuda() const noexcept { return kind == DeviceKind::cuda; }
  bool operator==(const Device&) const = default;
  std::string str() const;  ///< "cpu", "cuda:0"
};

/// "cpu", "cuda" (the first GPU) or "cuda:N"; nothing for other names. Does not ask whether the device is
/// there.
std::optional<Device> parse_device(std::string_view name);

}  // namespace fairway::tensor
