#pragma once
// Byte shuffle: a reversible filter before a coder (docs/spec/caseops_quantization.md section 7.1).

#include <cstddef>
#include <span>
#include <vector>

namespace fairway::artifact {

inline constexpr int kMaxStride = 15;  ///< of a section: four bits in its table entry

/// All bytes at positions that are 0 modulo `stride`, then all at 1, ...: piece p has ceil((n - p) / stride).
/// Stride 1 changes nothing.
std::vector<std::byte> shuffle(std::span<const std::byte> bytes, int stride);
/// The inverse; `out` has the size of `bytes` and does not overlap it.
void unshuffle(std::span<const std::byte> bytes, int stride, std::span<std::byte> out);

}  // namespace fairway::artifact
