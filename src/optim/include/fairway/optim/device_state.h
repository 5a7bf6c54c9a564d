#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

namespace fairway::optim {

/// One piece of state in a GPU's memory. Names, sizes and contents are those of the CPU's StateBuffer, so
/// that a checkpoint written on one resumes on the other.
struct DeviceStateBuffer {
  std::string name;
  std::byte* data = nullptr;  ///< device memory
  std::size_t bytes = 0;
};

/// A copy of a piece of state in host memory.
struct SavedState {
  std::string name;
  std::vector<std::byte> bytes;
};

}  // namespace fairway::optim
