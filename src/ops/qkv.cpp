#include "fairway/ops/qkv.h"

#include "qkv_shapes.h"

namespace fairway::ops {

QkvShapes::QkvShapes(const Operator& op, const HeadShape& h, DType t, const Shape& rows) {
  rule::require(op, h.heads > 0 && h.kv_heads > 0 && h.heads % h.kv_heads == 0,
                "query heads do not share KV heads evenly");
  rule::require(op, h.head_dim > 0 && h.head_dim <= max_head_dim, "head_dim is not in [1, 512]");
  rule::require(op, rows.rank() >= 2, "the rows are not [B, S, ...]");
  const auto sums = rule::wide(t);
  const auto batch = rows[0], length = rows[1];
  qkv = {t, {batch, length, h.qkv_width()}};
  gain = {sums, {h.heads}};
  q = {t, {batch, length, h.heads, h.head_dim}};
  kv = {t, {batch, length, h.kv_heads, h.head_dim}};
  rr = {sums, {batch, length, h.heads + h.kv_heads}};
  ve = {t, {batch, length, h.kv_width()}};
  one = {sums, {1}};
  per_row = {sums, {batch, length}};
}

void QkvShapes::check_rope(const Operator& op, rule::Metas in, std::size_t first, const HeadShape& h,
                           int rope_dims) const {
  rule::exactly(op, in, first, gain);
  rule::require(op, rope_dims >= 0 && rope_dims % 2 == 0 && rope_dims <= h.head_dim,
                "rope_dims is not an even part of head_dim");
  const auto& table = in[first + 1].shape;
  rule::require(op, table.rank() == 2 && table[0] >= qkv.shape[1],
                "the rotation table is not [P, rope_dims] with P >= S");
  rule::exactly(op, in, first + 1, {rule::wide(qkv.dtype), {table[0], rope_dims}});
  rule::optional(op, in, first + 2, {DType::i32, {qkv.shape[0]}});
}

void QkvShapes::check_value_embedding(const Operator& op, rule::Metas in, std::size_t first,
                                      bool expected) const {
  for (auto i = first; i < first + 3; ++i) {
    if (!expected)
      rule::require(op, !rule::present(in, i), "value embedding inputs without a value embedding");
    else
      rule::require(op, rule::present(in, i), "a value embedding input is absent");
  }
  if (!expected) return;
  rule::exactly(op, in, first, ve);
  rule::exactly(op, in, first + 1, one);
  rule::exactly(op, in, first + 2, one);
}

std::vector<Meta> QkvPrepare::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 7);
  rule::activation(*this, in, 0);
  const QkvShapes shapes(*this, shape, in[0].dtype, in[0].shape);
  rule::exactly(*this, in, 0, shapes.qkv);
  shapes.check_rope(*this, in, 1, shape, rope_dims);
  shapes.check_value_embedding(*this, in, 4, value_embedding);
  return {shapes.q, shapes.kv, shapes.kv, shapes.rr};
}
std::vector<BackwardStep> QkvPrepare::backward() const {
  std::vector<int> grads = {0, 1};
  if (value_embedding) grads.insert(grads.end(), {4, 5, 6});
  const Ref no_row_factor = input(7);
  return {{std::make_shared<QkvBackward>(shape, rope_dims, value_embedding),
           {input(1), input(2), input(3), output(3), output(0), output(1), no_row_factor, input(4), input(5),
            input(6), grad(0), grad(1), grad(2)},
           std::move(grads)}};
}
std::string QkvPrepare::attributes() const {
  return fmt::format("heads={} kv_heads={} head_dim={} rope_dims={} eps={}{}", shape.heads, shape.kv_heads,
                     shape.head_dim, rope_dims, eps, value_embedding ? " value_embedding" : "");
}

std::vector<Meta> QkvBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 13, 13);
  rule::activation(*this, in, 4);
  const QkvShapes shapes(*this, shape, in[4].dtype, in[4].shape);
  shapes.check_rope(*this, in, 0, shape, rope_dims);
  rule::exactly(*this, in, 3, shapes.rr);
  rule::exactly(*this, in, 4, shapes.q);
  rule::exactly(*this, in, 5, shapes.kv);
  rule::optional(*this, in, 6, shapes.per_row);
  shapes.check_value_embedding(*this, in, 7, value_embedding);
  rule::optional(*this, in, 10, shapes.q);
  rule::optional(*this, in, 11, shapes.kv);
  rule::optional(*this, in, 12, shapes.kv);
  std::vector<Meta> out = {shapes.qkv, shapes.gain};
  if (value_embedding) out.insert(out.end(), {shapes.ve, shapes.one, shapes.one});
  return out;
}
std::size_t QkvBackward::workspace_bytes(std::span<const Meta>, std::span<const Meta> out) const {
  return rule::partial_bytes(out[0], shape.heads + shape.kv_heads);  // each head's gain, dv . ve
}

}  // namespace fairway::ops
