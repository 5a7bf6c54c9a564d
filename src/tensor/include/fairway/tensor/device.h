#pragma once
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

}  // namespace fairway::tensor
