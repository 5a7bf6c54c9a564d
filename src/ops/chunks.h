#pragma once
#include <cstdint>

namespace fairway::ops {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// How rows are cut where each piece keeps partial sums of a parameter's gradient: from the shape alone, so
/// that the sums (piece by piece, in order) are the same for any number of threads. Not inline: kernel
/// sources of several instruction sets use it.
struct Chunks {
  std::int64_t rows = 0;  ///< rows of each piece but the last
  std::int64_t count = 0;
};
/// At most 64 pieces.
Chunks chunks_of(std::int64_t rows, std::int64_t columns);
/// The same for a GPU: up to 512 pieces, which its multiprocessors take in turn.
Chunks device_chunks_of(std::int64_t rows);

}  // namespace fairway::ops
