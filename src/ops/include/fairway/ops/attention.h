#pragma once
#include "fairway/ops/operator.h"
#include "fairway/ops/qkv.h"

namespace fairway::ops {

/// Size of a head that attention on a GPU takes in bf16; in f32 any size will do.
inline constexpr int bf16_head_dim = 64;

/// Causal softmax attention, scale 1/sqrt(dh), query head h reads KV head h / (H / Hkv).
/// The Sq queries are the last Sq of the S positions; query i (position p = S - Sq + i) sees keys
/// [segment_start[b, p], p] (segment_start absent: from 0).
///   in:  0 q [B, Sq, H, dh], 1 k [B, S, Hkv, dh], 2 v [B, S, Hkv, dh], 3 segment_start [B, S] i32 (may be
///   absent) out: 0 o [B, Sq, H, dh], 1 lse [B, H, Sq] (log-sum-exp of the scaled scores, natural log)
/// Scores are never stored beyond one block of queries. FLOPs 2 * 2 * dh * (visible pairs) per head.
/// unit_keys: each key's mean square is at most 1 up to bf16's rounding (QkvPrepare's are), so |score| <=
/// |q|; a GPU then needs no running maximum. Wrong results if it does not hold.
/// longest: segments are at most so long (0: not known); only the count of FLOPs, then an upper bound, asks.
class Attention final : public Operator {
 public:
  explicit Attention(HeadShape shape, bool unit_keys = false, std::int64_t longest = 0)
      : shape(shape), unit_keys(unit_keys), longest(longest) {}
  const HeadShape shape;
  const bool unit_keys;
  const std::int64_t longest;
  std::string_view name() const override { return "attention"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  Cost cost(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::vector<BackwardStep> backward() const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::string attributes() const override;
};

/// P rebuilt from lse; delta = rowsum(do . o); ds = P . (do v^T - delta); dq = scale ds k, dk = scale ds^T q,
/// dv = P^T do. Deterministic without atomics (cf. Dao et al. 2022): an owner is a (row, query head, split of
/// the keys) that the shape gives; it sums query blocks in order, and the owners' partial sums are added in a
/// fixed order afterwards.
///   in: q, k, v, segment_start (may be absent), o, lse, do;  out: dq, dk, dv (each may be unwanted)
class AttentionBackward final : public Operator {
 public:
  explicit AttentionBackward(HeadShape shape, std::int64_t longest = 0) : shape(shape), longest(longest) {}
  const HeadShape shape;
  const std::int64_t longest;
  std::string_view name() const override { return "attention_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  Cost cost(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
};

/// Attention of new positions against a key/value cache: first stores k, v of the S new positions at
/// [length[b], length[b] + S) of the caches, then query i sees cache entries [0, length[b] + i].
///   in:  0 q [B, S, H, dh], 1 k [B, S, Hkv, dh], 2 v [B, S, Hkv, dh], 3 length [B] i32 (entries before this
///   step),
///        4 k_cache [B, C, Hkv, dh], 5 v_cache [B, C, Hkv, dh]  (state: written by this step)
///   out: 0 o [B, S, H, dh].  No gradient. length + S <= C (checked).
class AttentionDecode final : public Operator {
 public:
  explicit AttentionDecode(HeadShape shape) : shape(shape) {}
  const HeadShape shape;
  std::string_view name() const override { return "attention_decode"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::size_t workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const override;
  std::string attributes() const override;
};

/// Exclusive self attention (docs/spec/model.md section 9): with n = v[t, h / (H/Hkv)] / max(|v|, 1e-12) of
/// the same position, y = o - (o . n) n.
///   in: o [B, Sq, H, dh], v [B, S, Hkv, dh] (the last Sq positions are used);  out: y [B, Sq, H, dh]
class Xsa final : public Operator {
 public:
  explicit Xsa(HeadShape shape) : shape(shape) {}
  const HeadShape shape;
  std::string_view name() const override { return "xsa"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<BackwardStep> backward() const override;
  std::string attributes() const override;
};

/// do = dy - (dy . n) n; dn = -((o . n) dy + (dy . n) o) summed over the group; dv = (dn - (dn . n) n) / |v|
/// (0 where |v| <= 1e-12, and zeros for positions before the last Sq).
///   in: o, v, dy;  out: do, dv (each may be unwanted)
class XsaBackward final : public Operator {
 public:
  explicit XsaBackward(HeadShape shape) : shape(shape) {}
  const HeadShape shape;
  std::string_view name() const override { return "xsa_backward"; }
  std::vector<Meta> infer(std::span<const Meta> in) const override;
  std::vector<InPlace> in_place() const override { return {{0, 2}}; }
};

}  // namespace fairway::ops
