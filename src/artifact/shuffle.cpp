#include "shuffle.h"

namespace fairway::artifact {

std::vector<std::byte> shuffle(std::span<const std::byte> bytes, int stride) {
  std::vector<std::byte> out;
  out.reserve(bytes.size());
  const auto step = static_cast<std::size_t>(stride);
  for (std::size_t piece = 0; piece < step; ++piece)
    for (std::size_t i = piece; i < bytes.size(); i += step) out.push_back(bytes[i]);
  return out;
}

void unshuffle(std::span<const std::byte> bytes, int stride, std::span<std::byte> out) {
  const auto step = static_cast<std::size_t>(stride);
  const auto* next = bytes.data();
  for (std::size_t piece = 0; piece < step; ++piece)
    for (std::size_t i = piece; i < out.size(); i += step) out[i] = *next++;
}

}  // namespace fairway::artifact
