#pragma once
#include "fairway/ops/operator.h"

namespace fairway::ops {

/// Cross entropy of soft-capped logits, probabilities never stored: c = cap * tanh(z / cap), nll = lse(c) -
/// c[target] + z_loss * lse(c)^2. The last term (z-loss, PR 398's ablation; 0: none) is for training only: it
/// keeps the normaliser small.
///   in: 0 z [T..., V] (raw logits), 1 target [T...] i32 in [0, V), or -1: position not scored (nll 0,
///   gradient 0) out: 0 nll [T...] f32/f64, 1 lse [T...] of c
class SoftcapCrossEntropy final : public Operator {
 public:
  explicit SoftcapCrossEntropy(float cap, float z_loss = 0) : cap(cap), z_loss(z_loss) {}
  const float cap, z_loss;
  std::string_view name() const override { return "softcap_cross_entropy"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::string attributes() const override;
};

/// dz = dnll * ((1 + 2 z_loss lse) exp(c - lse) - [v = target]) * (1 - (c / cap)^2), in place over z where z
/// dies here.
///   in: z, target, lse, dnll;  out: dz
class SoftcapCrossEntropyBackward final : public Operator {
 public:
  explicit SoftcapCrossEntropyBackward(float cap, float z_loss = 0) : cap(cap), z_loss(z_loss) {}
  const float cap, z_loss;
  std::string_view name() const override { return "softcap_cross_entropy_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<InPlace> in_place() const override { return {{0, 0}}; }
};

/// y = cap * tanh(x / cap) without a gradient: the logits that `generate` and `logits` return, never narrower
/// than f32 (sums over a distribution are checked to 1e-5).   in: x;  out: y
class Softcap final : public Operator {
 public:
  explicit Softcap(float cap) : cap(cap) {}
  const float cap;
  std::string_view name() const override { return "softcap"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::string attributes() const override;
};

/// loss = sum_t w[t] * x[t], summed in double over fixed blocks.   in: x [T...], w [T...];  out: loss [1]
/// Backward: dx = w * dloss (no gradient for w).
class WeightedSum final : public Operator {
 public:
  std::string_view name() const override { return "weighted_sum"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
};

/// in: w, dloss [1];  out: dx
class WeightedSumBackward final : public Operator {
 public:
  std::string_view name() const override { return "weighted_sum_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
};

}  // namespace fairway::ops
