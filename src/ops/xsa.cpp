#include "fairway/ops/attention.h"

#include "attention_tiling.h"
#include "rule.h"

namespace fairway::ops {
namespace {

void check_inputs(const Operator& op, rule::Metas in, const HeadShape& h) {
  rule::activation(op, in, 0);
  const Shape &o = in[0].shape, &v = in[1].shape;
  rule::require(op, h.kv_heads > 0 && h.heads % h.kv_heads == 0, "heads must be a multiple of KV heads");
  rule::require(op, h.heads <= xsa_largest_group * h.kv_heads, "too many heads in a group");
  rule::require(op, o.rank() == 4 && v.rank() == 4, "o and v need 4 axes");
  rule::exactly(op, in, 0, {in[0].dtype, {o[0], o[1], h.heads, h.head_dim}});
  rule::exactly(op, in, 1, {in[0].dtype, {o[0], v[1], h.kv_heads, h.head_dim}});
  rule::require(op, o[1] <= v[1], "more outputs than positions");
}

}  // namespace

std::vector<Meta> Xsa::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  check_inputs(*this, in, shape);
  return {in[0]};
}

std::vector<BackwardStep> Xsa::backward() const {
  return {{std::make_shared<XsaBackward>(shape), {input(0), input(1), grad(0)}, {0, 1}}};
}

std::string Xsa::attributes() const {
  return fmt::format("heads={} kv_heads={} head_dim={}", shape.heads, shape.kv_heads, shape.head_dim);
}

std::vector<Meta> XsaBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  check_inputs(*this, in, shape);
  rule::exactly(*this, in, 2, in[0]);
  return {in[0], in[1]};
}

}  // namespace fairway::ops
