#include "row_order.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <limits>
#include <numeric>

namespace fairway::artifact {
namespace {

constexpr std::size_t kPad = 64;  // rows begin at multiples of it, so that the loop below has no rest

/// Compilers know this loop as "sum of absolute differences", one instruction for 16 or 32 bytes.
std::uint32_t distance(const std::uint8_t* a, const std::uint8_t* b, std::size_t n) {
  std::uint32_t sum = 0;
  for (std::size_t i = 0; i < n; ++i) sum += static_cast<std::uint32_t>(std::abs(int{a[i]} - int{b[i]}));
  return sum;
}

/// out[column][row] = in[row][column], in blocks that fit the first cache.
void transpose(const std::byte* in, std::size_t rows, std::size_t columns, std::byte* out) {
  constexpr std::size_t block = 64;
  for (std::size_t r0 = 0; r0 < rows; r0 += block)
    for (std::size_t c0 = 0; c0 < columns; c0 += block)
      for (std::size_t c = c0; c < std::min(c0 + block, columns); ++c)
        for (std::size_t r = r0; r < std::min(r0 + block, rows); ++r) out[c * rows + r] = in[r * columns + c];
}

}  // namespace

std::vector<std::uint16_t> similarity_order(std::span<const std::int8_t> q, std::size_t rows,
                                            std::size_t columns) {
  const std::size_t pitch = (columns + kPad - 1) / kPad * kPad;
  std::vector<std::uint8_t> table(rows * pitch);  // biased to unsigned, padded with equal bytes
  for (std::size_t r = 0; r < rows; ++r)
    std::transform(&q[r * columns], &q[r * columns] + columns, &table[r * pitch],
                   [](std::int8_t v) { return static_cast<std::uint8_t>(v + 128); });
  std::vector<std::uint16_t> left(rows), order;
  std::iota(left.begin(), left.end(), std::uint16_t{0});  // stays ascending
  auto next = left.begin();
  while (true) {
    order.push_back(*next);
    left.erase(next);
    if (left.empty()) return order;
    const auto* from = &table[order.back() * pitch];
    auto best = std::numeric_limits<std::uint32_t>::max();
    for (auto i = left.begin(); i != left.end(); ++i) {
      const auto d = distance(from, &table[*i * pitch], pitch);
      if (d < best) best = d, next = i;
    }
  }
}

void arrange(std::span<const std::byte> matrix, std::size_t rows, const Arrangement& how,
             std::span<std::byte> out) {
  const std::size_t columns = matrix.size() / rows;
  std::vector<std::byte> ordered;
  const auto* in = matrix.data();
  if (!how.order.empty()) {
    ordered.resize(matrix.size());
    for (std::size_t r = 0; r < rows; ++r)
      std::memcpy(&ordered[r * columns], &matrix[how.order[r] * columns], columns);
    in = ordered.data();
  }
  if (how.transposed) return transpose(in, rows, columns, out.data());
  std::memcpy(out.data(), in, matrix.size());
}

void restore(std::span<const std::byte> stream, std::size_t rows, const Arrangement& how,
             std::span<std::byte> out) {
  const std::size_t columns = stream.size() / rows;
  std::vector<std::byte> upright;
  const auto* in = stream.data();
  if (how.transposed) {
    upright.resize(stream.size());
    transpose(in, columns, rows, upright.data());
    in = upright.data();
  }
  if (how.order.empty()) {
    std::memcpy(out.data(), in, stream.size());
    return;
  }
  for (std::size_t r = 0; r < rows; ++r) std::memcpy(&out[how.order[r] * columns], in + r * columns, columns);
}

}  // namespace fairway::artifact
