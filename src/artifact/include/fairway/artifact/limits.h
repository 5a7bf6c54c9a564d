#pragma once
// What a reader of untrusted files accepts. The formats stand in docs/format.md.

#include <cstdint>

namespace fairway::artifact {

/// Caps on what a file may declare; everything is checked before memory is taken for it.
struct ReadLimits {
  std::uint32_t max_sections = 65'536;
  std::uint32_t max_tensors = 65'536;
  std::uint32_t max_name = 255;               ///< bytes of a tensor's, buffer's or section's name
  std::uint64_t max_decoded = 4ull << 30;     ///< bytes of one section after decompression
  std::uint64_t max_json = 16ull << 20;       ///< bytes of a JSON header (safetensors, provenance)
  std::uint64_t max_tokenizer = 64ull << 20;  ///< bytes of an embedded tokenizer
  bool verify_checksums = true;               ///< off only in fuzzers, which could not get past them
};

inline constexpr int kMaxRank = 6;  ///< as tensor::Shape::max_rank

}  // namespace fairway::artifact
