#pragma once
// How attention is tiled into items and what scratch memory they need: from the shapes alone. Not inline: the
// kernel sources of several instruction sets use it.

#include <cstdint>

#include "fairway/ops/qkv.h"

namespace fairway::ops {

/// Most query heads of one KV head that exclusive self attention takes.
inline constexpr int xsa_largest_group = 64;

/// Items are handed to `lanes` lanes (lane l takes l, l + lanes, ...); a lane owns scratch memory, so memory
/// does not depend on threads, and heavy items come first, so lanes take about the same time.
struct AttentionTiling {
  std::int64_t batch = 0, queries = 0, positions = 0;  ///< B, Sq, S
  std::int64_t query_rows = 0, key_rows = 0;  ///< rows of a block of queries, columns of a block of scores
  std::int64_t query_blocks = 0;
  std::int64_t rows_per_split = 0, splits = 0;  ///< backward: keys owned by one item
  std::int64_t lanes = 0;
  std::int64_t lane_elements = 0;  ///< scratch of one lane
};
AttentionTiling tile_attention(const HeadShape& heads, const Shape& q, std::int64_t positions);
AttentionTiling tile_attention_backward(const HeadShape& heads, const Shape& q, std::int64_t positions);

/// Workspace of backward in elements, in this order: lanes, delta [B, H, Sq], partial dq [splits, B, H, Sq,
/// dh], partial dk and dv [B, H, S, dh].
struct BackwardLayout {
  std::int64_t delta = 0, dq = 0, dk = 0, dv = 0, end = 0;
};
BackwardLayout layout_backward(const HeadShape& heads, const AttentionTiling& tiling);

/// Operands rounded to bf16, in floats from the workspace's start: q, k, v and (backward) the gradient of o,
/// behind everything else.
struct RoundedLayout {
  std::int64_t q = 0, k = 0, v = 0, d_o = 0, end = 0;
};
RoundedLayout layout_rounded(const HeadShape& heads, const AttentionTiling& tiling, std::int64_t begin);

/// Upper bound of cuda::attention_backward_workspace: shares of dq in fp32, and numbers per query and tile.
std::size_t device_backward_bytes(const HeadShape& heads, const Shape& q, std::int64_t positions);

/// Refuses a decode step that the cache has no room for.
void check_cache_room(const std::int32_t* length, std::int64_t batch, std::int64_t fresh,
                      std::int64_t capacity);

}  // namespace fairway::ops
