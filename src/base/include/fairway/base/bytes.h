#pragma once
// Little-endian reading and writing of hostile bytes: every read is checked against what is there.

#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>
#include <vector>

#include "fairway/base/error.h"

namespace fairway::base {

static_assert(std::endian::native == std::endian::little, "file formats are little-endian");

/// Reads fields from a span; throws an input error that names `what` when bytes run out.
class ByteReader {
 public:
  ByteReader(std::span<const std::byte> bytes, std::string what) : bytes_(bytes), what_(std::move(what)) {}
  template <class T>
  requires std::is_trivially_copyable_v<T> T read() {
    T value;
    std::memcpy(&value, take(sizeof(T)).data(), sizeof(T));
    return value;
  }
  /// `count` bytes, or an error when fewer are left.
  std::span<const std::byte> take(std::uint64_t count) {
    if (count > bytes_.size() - position_)
      fail_input("{}: truncated at byte {} ({} more expected, {} left)", what_, position_, count,
                 bytes_.size() - position_);
    auto part = bytes_.subspan(position_, count);
    position_ += count;
    return part;
  }
  /// A string with a 32-bit length of at most `max_length`.
  std::string read_string(std::uint32_t max_length) {
    auto length = read<std::uint32_t>();
    if (length > max_length)
      fail_input("{}: string of {} bytes at byte {} (at most {})", what_, length, position_, max_length);
    auto part = take(length);
    return {reinterpret_cast<const char*>(part.data()), part.size()};
  }
  std::uint64_t position() const noexcept { return position_; }
  std::uint64_t left() const noexcept { return bytes_.size() - position_; }

 private:
  std::span<const std::byte> bytes_;
  std::string what_;
  std::uint64_t position_ = 0;
};

/// Appends fields to a buffer.
class ByteWriter {
 public:
  template <class T>
  requires std::is_trivially_copyable_v<T>
  void write(const T& value) { write_bytes(std::as_bytes(std::span(&value, 1))); }
  void write_bytes(std::span<const std::byte> bytes) {
    buffer_.insert(buffer_.end(), bytes.begin(), bytes.end());
  }
  void write_string(std::string_view text) {
    write(static_cast<std::uint32_t>(text.size()));
    write_bytes(std::as_bytes(std::span(text.data(), text.size())));
  }
  std::uint64_t size() const noexcept { return buffer_.size(); }
  const std::vector<std::byte>& bytes() const& noexcept { return buffer_; }
  std::vector<std::byte> take() && noexcept { return std::move(buffer_); }

 private:
  std::vector<std::byte> buffer_;
};

inline std::span<const std::byte> as_bytes(std::string_view text) {
  return std::as_bytes(std::span(text.data(), text.size()));
}

}  // namespace fairway::base
