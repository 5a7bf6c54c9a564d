#pragma once
// Entropy coding of one section. A coder is a file coder_NAME.cpp and one line in the table of coder.cpp.

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

/// `level` is within the coder's own range. Throws a failure when memory runs out.
using Compress = std::vector<std::byte> (*)(std::span<const std::byte> raw, int level);
/// Fills `raw` exactly from exactly `stored`; an input error naming `what` otherwise. What it needs besides
/// is bounded, whatever the bytes say.
using Decompress = void (*)(std::span<const std::byte> stored, std::span<std::byte> raw,
                            std::string_view what);

/// What a build knows of a coder.
struct CoderInfo {
  std::string_view name;
  std::uint64_t feature;        ///< required feature bit of files that use it; 0: every reader knows it
  int min_level, max_level;     ///< both 0: no levels
  std::uint64_t max_expansion;  ///< decoded bytes for each stored one, at most
  Compress compress;            ///< null: stored as it is
  Decompress decompress;
};
/// Null for a number that no coder has.
const CoderInfo* coder_info(Coder coder);

/// One zstd frame that declares its size, no dictionary, no checksum of its own (the container has one).
std::vector<std::byte> zstd_compress(std::span<const std::byte> raw, int level);
void zstd_decompress(std::span<const std::byte> stored, std::span<std::byte> raw, std::string_view what);

/// One brotli stream (RFC 7932), window of at most 16 MiB; level = quality.
std::vector<std::byte> brotli_compress(std::span<const std::byte> raw, int level);
void brotli_decompress(std::span<const std::byte> stored, std::span<std::byte> raw, std::string_view what);

/// One .lzma stream (13 bytes of header, LZMA1, end marker), lc = lp = pb = 0; level = preset, 9 is 9e.
std::vector<std::byte> lzma_compress(std::span<const std::byte> raw, int level);
void lzma_decompress(std::span<const std::byte> stored, std::span<std::byte> raw, std::string_view what);

/// `level` beyond what the coder has means its highest. Throws an input error for a level below its lowest.
std::vector<std::byte> encode(Coder coder, std::span<const std::byte> raw, int level);

/// A section's bytes as they are stored.
struct Coded {
  Coder coder = Coder::raw;
  std::vector<std::byte> bytes;
};
/// The coders that a writer's choice stands for: itself, or for Coder::smallest all that code.
std::vector<Coder> coders_of(Coder choice);
/// The smallest of what `choice` stands for, the first of equals; raw where that is not longer.
Coded encode_smaller(Coder choice, std::span<const std::byte> raw, int level);

/// Decodes exactly `raw_bytes` bytes; an input error naming `what` when that is not what comes out.
RawBytes decode(Coder coder, std::span<const std::byte> stored, std::uint64_t raw_bytes,
                std::string_view what);

}  // namespace fairway::artifact
