#pragma once
// Learned gates of the CaseOps systems (docs/spec/caseops_model.md).

#include <vector>

#include "fairway/ops/operator.h"

namespace fairway::ops {

/// A U-net's connection behind a gate (docs/spec/caseops_model.md section 3.1), per channel:
/// y = (1 - g) . (w . s) + g . x, g = sigmoid(gate).
///   in: 0 x [..., D], 1 s [..., D] (from the first half), 2 w [D], 3 gate [D];  out: y [..., D]
class GatedSkip final : public Operator {
 public:
  std::string_view name() const override { return "gated_skip"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<InPlace> in_place() const override { return {{0, 0}}; }
};

/// dx = g . dy, ds = (1 - g) . w . dy; over rows dw = (1 - g) sum of s . dy, dgate = g (1 - g) sum of
/// (x - w . s) . dy.
///   in: x, s, w, gate, dy;  out: dx, ds, dw, dgate (each may be unwanted)
class GatedSkipBackward final : public Operator {
 public:
  std::string_view name() const override { return "gated_skip_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
};

/// A gate for each head of attention's output, from the first C channels of the block's normed input (section
/// 4.4): y[h] = factor . sigmoid(scale . (w[h] . n[0:C])) . o[h]. The lineage's three gates are its settings:
/// sparse (C = 12, factor 1), output (C = 12, factor 2), dense (C = D, factor 1).
///   in: 0 o [B, Sq, H, dh], 1 n [B, S, D] (its last Sq positions are used), 2 w [H, C], C <= D
///   out: y [B, Sq, H, dh]
class HeadGate final : public Operator {
 public:
  HeadGate(float scale, float factor) : scale(scale), factor(factor) {}
  const float scale, factor;
  std::string_view name() const override { return "head_gate"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::vector<InPlace> in_place() const override { return {{0, 0}}; }
  std::string attributes() const override;
};

/// With a = factor . sigmoid(z) and k = scale . a (1 - sigmoid(z)) (o[h] . dy[h]) for each row and head:
/// do = a dy; dn[0:C] = sum over heads of k w[h], zeros behind them and at positions without an output;
/// dw[h] = sum over rows of k n[0:C].
///   in: o, n, w, dy;  out: do, dn, dw (each may be unwanted)
class HeadGateBackward final : public Operator {
 public:
  HeadGateBackward(float scale, float factor) : scale(scale), factor(factor) {}
  const float scale, factor;
  std::string_view name() const override { return "head_gate_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
};

/// SmearGate (section 2.1): y[t] = u[t] + open[t] . lambda . sigmoid(w . u[t][0:C]) . u[t-1]. open is 0 where
/// token t is `bos` (nothing of the document before it) or where token t-1 is one of `closed` (fused markers,
/// docs/spec/leaders.md section 6), else 1. Before the first position stands `previous`, or nothing.
///   in: 0 u [B, S, D], 1 tokens [B, S] i32, 2 w [1, C], 3 lambda [1]; then, both or neither: 4 previous
///       [B, D] (no gradient flows to it), 5 its token [B] i32 (-1: none)
///   out: y [B, S, D]
class TokenSmear final : public Operator {
 public:
  explicit TokenSmear(int bos, std::vector<int> closed = {}) : bos(bos), closed(std::move(closed)) {}
  const int bos;  ///< -1: no such token
  const std::vector<int> closed;
  std::string_view name() const override { return "token_smear"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::string attributes() const override;
};

/// With a[t] = open . lambda . g, g = sigmoid(z): k[t] = a (1 - g) (u[t-1] . dy[t]);
/// du[t] = dy[t] + a[t+1] dy[t+1] + (k[t] w on the first C channels); dw = sum of k[t] u[t][0:C];
/// dlambda = sum of open . g (u[t-1] . dy[t]).
///   in: u, tokens, w, lambda, dy, and where they were given previous, its token
///   out: du, dw, dlambda (each may be unwanted)
class TokenSmearBackward final : public Operator {
 public:
  TokenSmearBackward(int bos, std::vector<int> closed) : bos(bos), closed(std::move(closed)) {}
  const int bos;
  const std::vector<int> closed;
  std::string_view name() const override { return "token_smear_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
};

}  // namespace fairway::ops
