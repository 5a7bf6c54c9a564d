#pragma once
// Entropy coding of one section.

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "fairway/artifact/artifact.h"

namespace fairway::artifact {

/// Bytes that are not cleared first: a declared size costs address space, not memory, until it is really
/// filled.
class RawBytes {
 public:
  explicit RawBytes(std::uint64_t size);
  std::span<std::byte> span() { return {data_.get(), size_}; }
  std::span<const std::byte> span() const { return {data_.get(), size_}; }

 private:
  std::unique_ptr<std::byte[]> data_;
  std::size_t size_;
};

/// One zstd frame that declares its size, no dictionary, no checksum of its own (the container has one).
std::vector<std::byte> zstd_compress(std::span<const std::byte> raw, int level);

/// Decodes exactly `raw_bytes` bytes; an input error naming `what` when that is not what comes out.
RawBytes decode(Coder coder, std::span<const std::byte> stored, std::uint64_t raw_bytes,
                std::string_view what);

}  // namespace fairway::artifact
