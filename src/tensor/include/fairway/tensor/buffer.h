#pragma once
#include "fairway/tensor/device.h"
#include "fairway/tensor/view.h"

#include <cstddef>
#include <memory>

namespace fairway::tensor {

/// Owns one block of memory on a device, zeroed, aligned to 256 bytes (2 MiB pages advised when large).
/// Throws a failure that names the size when memory is short.
class Buffer {
 public:
  Buffer() = default;
  Buffer(Device device, std::size_t bytes);
  ~Buffer();
  Buffer(Buffer&& other) noexcept;
  Buffer& operator=(Buffer&& other) noexcept;

  std::byte* data() const noexcept { return data_; }
  std::size_t bytes() const noexcept { return bytes_; }
  const Device& device() const noexcept { return device_; }
  /// The part [offset, offset + meta.bytes()) as an array.
  View view(std::size_t offset, Meta meta) const;

 private:
  Device device_;
  std::byte* data_ = nullptr;
  std::size_t bytes_ = 0;
};

/// An owned host array with a shape; for tests, tools and file formats.
class Array {
 public:
  Array() = default;
  explicit Array(Meta meta) : buffer_({}, meta.bytes()), meta_(meta) {}
  const Meta& meta() const noexcept { return meta_; }
  View view() const { return {buffer_.data(), meta_}; }
  template <class T>
  std::span<T> span() const {
    return view().span<T>();
  }

 private:
  Buffer buffer_;
  Meta meta_;
};

}  // namespace fairway::tensor
