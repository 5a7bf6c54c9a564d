#include "fairway/ops/qkv.h"

#include "chunks.h"
#include "rule.h"

namespace fairway::ops {
namespace {

using rule::Metas;

/// Shapes of everything around the fused projection `qkv` [B, S, (H + 2 Hkv) dh].
struct Shapes {
  Meta qkv, gain, q, kv, r, ve, one;
  Shapes(const Operator& op, Metas in, const HeadShape& h) : qkv(in[0]) {
    rule::activation(op, in, 0);
    rule::require(op, h.heads > 0 && h.kv_heads > 0 && h.heads % h.kv_heads == 0,
                  "query heads do not share KV heads evenly");
    rule::require(op, h.head_dim > 0 && h.head_dim <= max_head_dim, "head_dim is not in [1, 512]");
    rule::require(op, qkv.shape.rank() == 3, "input 0 is not [B, S, (H + 2 Hkv) dh]");
    const auto t = qkv.dtype, sums = rule::wide(t);
    const auto batch = qkv.shape[0], length = qkv.shape[1];
    rule::exactly(op, in, 0, {t, {batch, length, h.qkv_width()}});
    gain = {sums, {h.heads}};
    q = {t, {batch, length, h.heads, h.head_dim}};
    kv = {t, {batch, length, h.kv_heads, h.head_dim}};
    r = {sums, {batch, length, h.heads + h.kv_heads}};
    ve = {t, {batch, length, h.kv_width()}};
    one = {sums, {1}};
  }
};

void check_rope(const Operator& op, Metas in, const Shapes& shapes, const HeadShape& h, int rope_dims) {
  rule::exactly(op, in, 1, shapes.gain);
  rule::require(op, rope_dims >= 0 && rope_dims % 2 == 0 && rope_dims <= h.head_dim,
                "rope_dims is not an even part of head_dim");
  rule::require(op, in[2].shape.rank() == 2 && in[2].shape[0] >= shapes.qkv.shape[1],
                "input 2 is not [P, rope_dims] with P >= S");
  rule::exactly(op, in, 2, {rule::wide(shapes.qkv.dtype), {in[2].shape[0], rope_dims}});
  rule::optional(op, in, 3, {DType::i32, {shapes.qkv.shape[0]}});
}

/// ve, vs, w stand at `first`, or are all absent.
void check_value_embedding(const Operator& op, Metas in, std::size_t first, const Shapes& shapes,
                           bool expected) {
  for (auto i = first; i < first + 3; ++i) {
    if (!expected)
      rule::require(op, !rule::present(in, i), "value embedding inputs without a value embedding");
    else
      rule::require(op, rule::present(in, i), "a value embedding input is absent");
  }
  if (!expected) return;
  rule::exactly(op, in, first, shapes.ve);
  rule::exactly(op, in, first + 1, shapes.one);
  rule::exactly(op, in, first + 2, shapes.one);
}

}  // namespace

std::vector<Meta> QkvPrepare::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 7);
  const Shapes shapes(*this, in, shape);
  check_rope(*this, in, shapes, shape, rope_dims);
  check_value_embedding(*this, in, 4, shapes, value_embedding);
  return {shapes.q, shapes.kv, shapes.kv, shapes.r};
}
std::vector<BackwardStep> QkvPrepare::backward() const {
  std::vector<int> grads = {0, 1};
  if (value_embedding) grads.insert(grads.end(), {4, 5, 6});
  return {{std::make_shared<QkvPrepareBackward>(shape, rope_dims, value_embedding),
           {input(0), input(1), input(2), input(3), output(3), input(4), input(5), input(6), grad(0), grad(1),
            grad(2)},
           std::move(grads)}};
}
std::string QkvPrepare::attributes() const {
  return fmt::format("heads={} kv_heads={} head_dim={} rope_dims={} eps={}{}", shape.heads, shape.kv_heads,
                     shape.head_dim, rope_dims, eps, value_embedding ? " value_embedding" : "");
}

std::vector<Meta> QkvPrepareBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 11, 11);
  const Shapes shapes(*this, in, shape);
  check_rope(*this, in, shapes, shape, rope_dims);
  rule::exactly(*this, in, 4, shapes.r);
  check_value_embedding(*this, in, 5, shapes, value_embedding);
  rule::optional(*this, in, 8, shapes.q);
  rule::optional(*this, in, 9, shapes.kv);
  rule::optional(*this, in, 10, shapes.kv);
  std::vector<Meta> out = {shapes.qkv, shapes.gain};
  if (value_embedding) out.insert(out.end(), {shapes.ve, shapes.one, shapes.one});
  return out;
}
std::size_t QkvPrepareBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  const auto& x = in[0];
  const auto sums = shape.heads + shape.kv_heads;  // of one piece: each head's gain, dv . ve
  return static_cast<std::size_t>(most_pieces(x.shape.rows(), x.shape.columns()) * sums) *
         tensor::size_of(rule::wide(x.dtype));
}

}  // namespace fairway::ops
