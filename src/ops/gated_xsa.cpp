#include "fairway/ops/gated_xsa.h"

#include "fairway/ops/gates.h"
#include "rule.h"

#include <array>

namespace fairway::ops {
namespace {

/// One, two or four.
bool few(int n) { return n == 1 || n == 2 || n == 4; }

void check(const Operator& op, const HeadShape& shape, rule::Metas in) {
  Xsa(shape).infer(in.first(2));
  HeadGate(1, 1).infer(std::array{in[0], in[2], in[3]});
  rule::require(op, in[1].shape[1] == in[2].shape[1], "v and n are of other positions");
  rule::require(op, gated_xsa_fits(shape, in[2], in[3].shape[1]), "no kernel for this gate and these heads");
}

}  // namespace

bool gated_xsa_fits(const HeadShape& shape, const Meta& n, std::int64_t channels) {
  return n.dtype == DType::bf16 && shape.head_dim == 64 && few(shape.kv_heads) &&
         shape.heads % shape.kv_heads == 0 && few(shape.heads / shape.kv_heads) && channels <= 16 &&
         n.shape.columns() % 8 == 0 && n.shape.columns() >= 16 && n.shape.rows() <= INT32_MAX / 2;
}

std::vector<Meta> GatedXsa::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 4, 4);
  check(*this, shape, in);
  return {in[0]};
}
std::vector<BackwardStep> GatedXsa::backward() const {
  return {{std::make_shared<GatedXsaBackward>(shape, scale, factor),
           {input(0), input(1), input(2), input(3), grad(0)},
           {0, 1, 2, 3}}};
}
std::string GatedXsa::attributes() const {
  return Xsa(shape).attributes() + " " + HeadGate(scale, factor).attributes();
}

std::vector<Meta> GatedXsaBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 5, 5);
  check(*this, shape, in);
  rule::exactly(*this, in, 4, in[0]);
  return {in[0], in[1], in[2], in[3]};
}
std::size_t GatedXsaBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  return rule::partial_bytes(in[2], in[3].shape.elements());
}

}  // namespace fairway::ops
