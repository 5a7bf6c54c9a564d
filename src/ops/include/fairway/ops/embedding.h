#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// Rows of a table: y[t] = table[index[t]].
///   in:  table [V, D] f32/f64/bf16, index [...] i32 in [0, V);  out: y [..., D] in `result`, f32 or (GPU)
///   bf16; f64 for an f64 table.
/// Backward: GatherBackward.
class Gather final : public Operator {
 public:
  explicit Gather(DType result = DType::f32) : result(result) {}
  const DType result;
  std::string_view name() const override { return "gather"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::string attributes() const override;
};

/// Gradient of Gather: dtable[v] = sum over t with index[t] = v of dy[t], in ascending t (no atomics).
///   in: table [V, D] (shape only, never read), index [...], dy [..., D] f32/bf16/f64;  out: dtable [V, D]
///   f32/f64
/// The kernel groups positions by row (counting sort in the workspace), then rows run in parallel; a GPU sums
/// a frequent row in segments of 64 positions, then the segments.
class GatherBackward final : public Operator {
 public:
  std::string_view name() const override { return "gather_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
};

/// Row of the bigram hash table for each position (docs/spec/model.md section 3; PR 162 lineage):
///   index[b, 0] = rows - 1 when previous[b] is absent or -1;
///   else index = ((36313 * x[t]) xor (27191 * x[t-1])) mod (rows - 1), 32-bit signed products, result made
///   non-negative. in: tokens [B, S] i32, previous [B] i32 (optional second input: the token before the row,
///   -1: none) out: index [B, S] i32.  No gradient.
class BigramIndex final : public Operator {
 public:
  explicit BigramIndex(int rows) : rows(rows) {}
  const int rows;
  std::string_view name() const override { return "bigram_index"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::string attributes() const override;
};

}  // namespace fairway::ops
