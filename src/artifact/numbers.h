#pragma once
// Arrays of numbers inside sections, as they are or in byte planes (docs/format.md).

#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <vector>

#include "fairway/base/bytes.h"

namespace fairway::artifact {

/// All numbers of one class, of all tensors, as one array of the section. As bytes of type T in planes, byte
/// k of number i stands at k * count + i.
template <class T>
class NumberArray {
 public:
  NumberArray(std::span<const std::byte> bytes, bool planes)
      : bytes_(bytes), count_(bytes.size() / sizeof(T)), planes_(planes) {}
  std::vector<T> next(std::uint64_t count) {
    std::vector<T> values(static_cast<std::size_t>(count));
    auto* out = reinterpret_cast<std::byte*>(values.data());
    if (!planes_) {
      std::memcpy(out, bytes_.data() + at_ * sizeof(T), count * sizeof(T));
    } else {
      for (std::size_t k = 0; k < sizeof(T); ++k)
        for (std::size_t i = 0; i < count; ++i) out[i * sizeof(T) + k] = bytes_[k * count_ + at_ + i];
    }
    at_ += count;
    return values;
  }

 private:
  std::span<const std::byte> bytes_;
  std::size_t count_, at_ = 0;
  bool planes_;
};

/// Appends an array of numbers of `width` bytes.
inline void write_numbers(base::ByteWriter& out, std::span<const std::byte> bytes, std::size_t width,
                          bool planes) {
  if (!planes || width == 1) return out.write_bytes(bytes);
  std::vector<std::byte> split(bytes.size());
  const std::size_t count = bytes.size() / width;
  for (std::size_t i = 0; i < count; ++i)
    for (std::size_t k = 0; k < width; ++k) split[k * count + i] = bytes[i * width + k];
  out.write_bytes(split);
}

}  // namespace fairway::artifact
