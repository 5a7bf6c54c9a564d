#include "fairway/ops/attention.h"

#include <algorithm>

#include "attention_tiling.h"
#include "row_splits.h"
#include "rule.h"

namespace fairway::ops {
namespace {

// Blocks of scores of 64 x 512 floats (128 KiB) stay in the second-level cache of today's cores; products of
// these extents run at sgemm's peak (bench/ops). Backward holds two such blocks.
constexpr std::int64_t query_rows = 64, key_rows = 512, backward_key_rows = 512;
constexpr std::int64_t rows_per_split = 1024;
constexpr std::int64_t most_lanes = 64;
constexpr std::int64_t vector_elements = 16;

std::int64_t whole_vectors(std::int64_t n) { return ceil_div(n, vector_elements) * vector_elements; }

AttentionTiling tile_queries(const Shape& q, std::int64_t positions, std::int64_t most_keys) {
  AttentionTiling tiling;
  tiling.batch = q[0], tiling.queries = q[1], tiling.positions = positions;
  tiling.query_rows = std::min(query_rows, tiling.queries);
  tiling.key_rows = std::min(most_keys, whole_vectors(positions));
  tiling.query_blocks = ceil_div(tiling.queries, std::max<std::int64_t>(1, tiling.query_rows));
  return tiling;
}

/// The metas of q, k, v agree with the head shape.
void check_qkv(const Operator& op, rule::Metas in, const HeadShape& h) {
  rule::activation(op, in, 0);
  const Shape &q = in[0].shape, &k = in[1].shape;
  rule::require(op, h.kv_heads > 0 && h.heads % h.kv_heads == 0 && h.head_dim > 0,
                "heads must be a multiple of KV heads");
  rule::require(op, q.rank() == 4 && k.rank() == 4, "q and k need 4 axes");
  rule::exactly(op, in, 0, {in[0].dtype, {q[0], q[1], h.heads, h.head_dim}});
  rule::exactly(op, in, 1, {in[0].dtype, {q[0], k[1], h.kv_heads, h.head_dim}});
  rule::exactly(op, in, 2, in[1]);
  rule::require(op, q[1] <= k[1], "more queries than positions");
}

/// Query-key pairs of the whole batch, all heads: at most so many where segments have a `longest`.
double visible_pairs(const HeadShape& h, const Shape& q, std::int64_t positions, std::int64_t longest) {
  const auto n = static_cast<double>(q[1]), before = static_cast<double>(positions - q[1]);
  if (longest > 0 && longest < positions)
    return static_cast<double>(q[0]) * h.heads * n * static_cast<double>(longest + 1) / 2;
  return static_cast<double>(q[0]) * h.heads * (n * before + n * (n + 1) / 2);
}

std::size_t whole_lines(std::size_t bytes) { return (bytes + 255) / 256 * 256; }

/// Where a GPU puts outputs that are added to something or that nobody wants: its kernels write all in full.
std::size_t spare_bytes(const std::vector<Meta>& outputs) {
  std::size_t bytes = 0;
  for (const Meta& m : outputs) bytes += whole_lines(m.bytes());
  return bytes;
}

std::string head_attributes(const HeadShape& h) {
  return fmt::format("heads={} kv_heads={} head_dim={}", h.heads, h.kv_heads, h.head_dim);
}

}  // namespace

AttentionTiling tile_attention(const HeadShape& heads, const Shape& q, std::int64_t positions) {
  AttentionTiling tiling = tile_queries(q, positions, key_rows);
  tiling.lanes = std::min(most_lanes, tiling.batch * heads.heads * tiling.query_blocks);
  // A decode step takes the heads of a group as rows.
  const std::int64_t rows = std::max<std::int64_t>(tiling.query_rows, heads.heads / heads.kv_heads);
  tiling.lane_elements =
      rows * tiling.key_rows + whole_vectors(rows * heads.head_dim) + 2 * whole_vectors(rows);
  return tiling;
}

AttentionTiling tile_attention_backward(const HeadShape& heads, const Shape& q, std::int64_t positions) {
  AttentionTiling tiling = tile_queries(q, positions, backward_key_rows);
  tiling.rows_per_split = std::min(rows_per_split, whole_vectors(positions));
  tiling.splits = ceil_div(positions, std::max<std::int64_t>(1, tiling.rows_per_split));
  tiling.lanes = std::min(most_lanes, tiling.batch * heads.heads * tiling.splits);
  tiling.lane_elements = 2 * tiling.query_rows * tiling.key_rows;
  return tiling;
}

std::size_t device_backward_bytes(const HeadShape& heads, const Shape& q, std::int64_t positions) {
  constexpr std::int64_t tile = 128;
  const std::int64_t tiles = ceil_div(q[1], tile), rows = q[0] * heads.heads * tiles;
  const std::int64_t floats = rows * tile * (bf16_head_dim + 2);  // dq, lse, delta
  const std::int64_t integers = q[0] * (tiles * (tile + 2) + ceil_div(positions, tile)) + rows * 2 + 2;
  return static_cast<std::size_t>(floats + integers) * 4 + 9 * 256;
}

BackwardLayout layout_backward(const HeadShape& heads, const AttentionTiling& tiling) {
  const std::int64_t query_heads = tiling.batch * heads.heads;
  BackwardLayout l;
  l.delta = tiling.lanes * tiling.lane_elements;
  l.dq = l.delta + whole_vectors(query_heads * tiling.queries);
  l.dk = l.dq + tiling.splits * query_heads * tiling.queries * heads.head_dim;
  l.dv = l.dk + query_heads * tiling.positions * heads.head_dim;
  l.end = l.dv + query_heads * tiling.positions * heads.head_dim;
  return l;
}

RoundedLayout layout_rounded(const HeadShape& heads, const AttentionTiling& tiling, std::int64_t begin) {
  const std::int64_t width = tiling.batch * heads.head_dim;
  const std::int64_t query_floats = whole_vectors(ceil_div(width * heads.heads * tiling.queries, 2));
  const std::int64_t key_floats = whole_vectors(ceil_div(width * heads.kv_heads * tiling.positions, 2));
  RoundedLayout l;
  l.q = whole_vectors(begin);
  l.k = l.q + query_floats;
  l.v = l.k + key_floats;
  l.d_o = l.v + key_floats;
  l.end = l.d_o + query_floats;
  return l;
}

void check_cache_room(const std::int32_t* length, std::int64_t batch, std::int64_t fresh,
                      std::int64_t capacity) {
  for (std::int64_t b = 0; b < batch; ++b)
    base::check(length[b] >= 0 && length[b] + fresh <= capacity,
                "attention cache of {} has no room for {} after {}", capacity, fresh, length[b]);
}

std::vector<Meta> Attention::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 4);
  check_qkv(*this, in, shape);
  const Shape& q = in[0].shape;
  rule::optional(*this, in, 3, {DType::i32, {q[0], in[1].shape[1]}});
  return {in[0], {rule::wide(in[0].dtype), {q[0], shape.heads, q[1]}}};
}

Cost Attention::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost = Operator::cost(in, out);
  cost.flops = 4.0 * shape.head_dim * visible_pairs(shape, in[0].shape, in[1].shape[1], longest);
  return cost;
}

std::vector<BackwardStep> Attention::backward() const {
  return {{std::make_shared<AttentionBackward>(shape, longest),
           {input(0), input(1), input(2), input(3), output(0), output(1), grad(0)},
           {0, 1, 2}}};
}

std::size_t Attention::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  const AttentionTiling tiling = tile_attention(shape, in[0].shape, in[1].shape[1]);
  const std::int64_t lanes = tiling.lanes * tiling.lane_elements;
  if (in[0].dtype == DType::f64) return static_cast<std::size_t>(lanes) * sizeof(double);
  const std::size_t device = spare_bytes(infer(in));
  if (in[0].dtype == DType::bf16) return device;
  return std::max(device, static_cast<std::size_t>(layout_rounded(shape, tiling, lanes).d_o) * sizeof(float));
}

std::string Attention::attributes() const { return head_attributes(shape) + (unit_keys ? " unit_keys" : ""); }

std::vector<Meta> AttentionBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 7, 7);
  check_qkv(*this, in, shape);
  const Shape& q = in[0].shape;
  rule::optional(*this, in, 3, {DType::i32, {q[0], in[1].shape[1]}});
  rule::exactly(*this, in, 4, in[0]);
  rule::exactly(*this, in, 5, {rule::wide(in[0].dtype), {q[0], shape.heads, q[1]}});
  rule::exactly(*this, in, 6, in[0]);
  return {in[0], in[1], in[2]};
}

/// Five products of the forward's two: scores again, do v^T, and one for each gradient.
Cost AttentionBackward::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost = Operator::cost(in, out);
  cost.flops = 10.0 * shape.head_dim * visible_pairs(shape, in[0].shape, in[1].shape[1], longest);
  return cost;
}

std::size_t AttentionBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  const AttentionTiling tiling = tile_attention_backward(shape, in[0].shape, in[1].shape[1]);
  const std::int64_t end = layout_backward(shape, tiling).end;
  if (in[0].dtype == DType::f64) return static_cast<std::size_t>(end) * sizeof(double);
  const std::size_t spare = spare_bytes(infer(in));
  if (in[0].dtype == DType::bf16) return spare + device_backward_bytes(shape, in[0].shape, in[1].shape[1]);
  return std::max(spare + whole_lines(in[5].bytes()),
                  static_cast<std::size_t>(layout_rounded(shape, tiling, end).end) * sizeof(float));
}

std::vector<Meta> AttentionDecode::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 6, 6);
  check_qkv(*this, in, shape);
  const Shape &q = in[0].shape, &cache = in[4].shape;
  rule::require(*this, in[1].shape[1] == q[1], "q and k need the same positions");
  rule::exactly(*this, in, 3, {DType::i32, {q[0]}});
  rule::require(*this, cache.rank() == 4 && cache[1] >= q[1], "the cache is shorter than one step");
  rule::exactly(*this, in, 4, {in[0].dtype, {q[0], cache[1], shape.kv_heads, shape.head_dim}});
  rule::exactly(*this, in, 5, in[4]);
  return {in[0]};
}

std::size_t AttentionDecode::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  const AttentionTiling tiling = tile_attention(shape, in[0].shape, in[4].shape[1]);
  return static_cast<std::size_t>(tiling.lanes * tiling.lane_elements) * size_of(in[0].dtype);
}

std::string AttentionDecode::attributes() const { return head_attributes(shape); }

}  // namespace fairway::ops
