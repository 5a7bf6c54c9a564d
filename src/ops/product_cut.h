#pragma once
// How a matrix product is cut into independent tiles. From the shape alone, so that thread counts never
// change bits.

#include <cstdint>

#include "fairway/tensor/view.h"

namespace fairway::ops {

/// c [m, n] in tiles of tile_m x tile_n; the sum over k in chunks of chunk_k, added in index order. The first
/// chunk goes straight into c, the others into `chunks - 1` matrices [m, n] of workspace.
struct ProductCut {
  std::int64_t tile_m = 0, tile_n = 0, chunk_k = 0;
  std::int64_t tiles_m = 0, tiles_n = 0, chunks = 0;
  std::int64_t tiles() const { return tiles_m * tiles_n * chunks; }
};
/// Room for an operand rounded to bf16, up to the next 256 bytes; where a GPU keeps those of fp32 operands.
std::size_t rounded_operand_bytes(const tensor::Meta& operand);
ProductCut cut_product(std::int64_t m, std::int64_t n, std::int64_t k);

}  // namespace fairway::ops
