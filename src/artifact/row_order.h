#pragma once
// Rows of a matrix of integers in an order in which neighbours resemble each other, and matrices arranged for
// a coder (docs/spec/caseops_quantization.md section 7.2).

#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace fairway::artifact {

/// Row numbers are stored in 16 bits, distances summed in 32.
constexpr bool sortable(std::size_t rows, std::size_t columns) {
  return rows > 1 && rows <= (1u << 16) && columns <= (1u << 23);
}

/// Greedy chain from row 0: each time the unused row with the smallest L1 distance to the current one, ties
/// to the lowest number. q is [rows x columns], row-major, and sortable. rows^2 * columns / 2 absolute
/// differences: about a second for 8192 x 512.
std::vector<std::uint16_t> similarity_order(std::span<const std::int8_t> q, std::size_t rows,
                                            std::size_t columns);

/// How the integers of a matrix stand in a stream.
struct Arrangement {
  std::span<const std::uint16_t> order;  ///< row i of the stream is row order[i]; empty: as they are
  bool transposed = false;               ///< column after column, of the ordered rows
};
/// Both take [rows x columns] bytes in and out, which do not overlap.
void arrange(std::span<const std::byte> matrix, std::size_t rows, const Arrangement& how,
             std::span<std::byte> out);
void restore(std::span<const std::byte> stream, std::size_t rows, const Arrangement& how,
             std::span<std::byte> out);

}  // namespace fairway::artifact
