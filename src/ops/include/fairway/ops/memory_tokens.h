#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// Learned vectors in the place of the first K positions of every row (memory tokens, PR 398's ablation):
/// y[b, k] = head[k] for k < K, y[b, t] = x[b, t] for t >= K.
///   in: x [B, S, D], head [K, D] f32/f64, 1 <= K <= S;  out: y [B, S, D]
class MemoryTokens final : public Operator {
 public:
  std::string_view name() const override { return "memory_tokens"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<InPlace> in_place() const override { return {{0, 0}}; }
};

/// dx[b, t] = dy[b, t] for t >= K, else 0; dhead[k] = sum over b, ascending, of dy[b, k].
///   in: head (shape only), dy;  out: dx, dhead (each may be unwanted)
class MemoryTokensBackward final : public Operator {
 public:
  std::string_view name() const override { return "memory_tokens_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
};

}  // namespace fairway::ops
