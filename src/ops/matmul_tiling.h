#pragma once
// How a matrix product is tiled into independent tiles. From the shape alone, so that thread counts never
// change bits.

#include <cstdint>

#include "fairway/tensor/view.h"

namespace fairway::ops {

/// c [m, n] in tiles of tile_m x tile_n; the sum over k in splits of split_k, added in index order. The first
/// split goes straight into c, the others into `splits - 1` matrices [m, n] of workspace.
struct MatmulTiling {
  std::int64_t tile_m = 0, tile_n = 0, split_k = 0;
  std::int64_t tiles_m = 0, tiles_n = 0, splits = 0;
  std::int64_t tiles() const { return tiles_m * tiles_n * splits; }
};
/// Room for an operand rounded to bf16, up to the next 256 bytes; where a GPU keeps those of fp32 operands.
std::size_t rounded_operand_bytes(const tensor::Meta& operand);
MatmulTiling tile_matmul(std::int64_t m, std::int64_t n, std::int64_t k);

}  // namespace fairway::ops
