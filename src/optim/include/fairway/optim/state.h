#pragma once
#include <cstddef>
#include <functional>
#include <span>
#include <string>
#include <string_view>

namespace fairway::optim {

/// One piece of an optimiser's state, in place, in the memory of its device. Names are unique within an
/// optimiser and stable; all pieces together are the whole state.
struct StateBuffer {
  std::string name;
  std::span<std::byte> bytes;
};

/// A piece as the host reads it. Names, sizes and contents are the same on every device, so that a checkpoint
/// written on one resumes on another.
struct SavedState {
  std::string name;
  std::span<const std::byte> bytes;
};

/// Where a saved piece is found: `bytes` of them, or none, which leaves the piece as it is.
using StateSource = std::function<std::span<const std::byte>(std::string_view name, std::size_t bytes)>;

}  // namespace fairway::optim
