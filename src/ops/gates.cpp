#include "fairway/ops/gates.h"

#include <algorithm>

#include "rule.h"

namespace fairway::ops {
namespace {

Meta channels(const Meta& x) { return {rule::wide(x.dtype), {x.shape.columns()}}; }

void check_skip(const Operator& op, rule::Metas in) {
  rule::activation(op, in, 0);
  rule::exactly(op, in, 1, in[0]);
  rule::exactly(op, in, 2, channels(in[0]));
  rule::exactly(op, in, 3, channels(in[0]));
}

void check_head_gate(const Operator& op, rule::Metas in) {
  rule::activation(op, in, 0);
  const Shape &o = in[0].shape, &n = in[1].shape, &w = in[2].shape;
  rule::require(op, o.rank() == 4, "input 0 is not [B, Sq, H, dh]");
  rule::require(op, n.rank() == 3 && n[0] == o[0] && n[1] >= o[1] && in[1].dtype == in[0].dtype,
                "input 1 is not [B, S, D] with S >= Sq");
  rule::require(op, w.rank() == 2 && w[1] <= n[2], "input 2 is not [H, C] with C <= D");
  rule::exactly(op, in, 2, {rule::wide(in[0].dtype), {o[2], w[1]}});
}

/// Inputs 0 to 3 of TokenSmear, and what may stand before the rows from input `before` on.
void check_smear(const Operator& op, rule::Metas in, std::size_t before) {
  rule::activation(op, in, 0);
  const Meta& u = in[0];
  rule::require(op, u.shape.rank() == 3, "input 0 is not [B, S, D]");
  rule::exactly(op, in, 1, {DType::i32, {u.shape[0], u.shape[1]}});
  rule::require(op, in[2].shape.rank() == 2 && in[2].shape[1] <= u.shape[2], "input 2 is not [1, C], C <= D");
  rule::exactly(op, in, 2, {rule::wide(u.dtype), {1, in[2].shape[1]}});
  rule::exactly(op, in, 3, {rule::wide(u.dtype), {1}});
  rule::optional(op, in, before, {u.dtype, {u.shape[0], u.shape[2]}});
  rule::optional(op, in, before + 1, {DType::i32, {u.shape[0]}});
  rule::require(op, rule::present(in, before) == rule::present(in, before + 1),
                "what stands before the rows comes with its token");
}

}  // namespace

std::vector<Meta> GatedSkip::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 4, 4);
  check_skip(*this, in);
  return {in[0]};
}
std::vector<BackwardStep> GatedSkip::backward() const {
  return {{std::make_shared<GatedSkipBackward>(),
           {input(0), input(1), input(2), input(3), grad(0)},
           {0, 1, 2, 3}}};
}

std::vector<Meta> GatedSkipBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 5, 5);
  check_skip(*this, in);
  rule::exactly(*this, in, 4, in[0]);
  return {in[0], in[1], in[2], in[3]};
}
std::size_t GatedSkipBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  return rule::partial_bytes(in[0], 2 * in[0].shape.columns());
}

std::vector<Meta> HeadGate::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  check_head_gate(*this, in);
  return {in[0]};
}
std::vector<BackwardStep> HeadGate::backward() const {
  return {{std::make_shared<HeadGateBackward>(scale, factor),
           {input(0), input(1), input(2), grad(0)},
           {0, 1, 2}}};
}
std::string HeadGate::attributes() const { return fmt::format("scale={} factor={}", scale, factor); }

std::vector<Meta> HeadGateBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 4, 4);
  check_head_gate(*this, in);
  rule::exactly(*this, in, 3, in[0]);
  return {in[0], in[1], in[2]};
}
std::size_t HeadGateBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  // The sums of each split of the rows of n, or of o, and a number for each row and head.
  const Shape& o = in[0].shape;
  const Meta of_o{in[0].dtype, {o[0] * o[1], in[1].shape.columns()}};
  const auto width = in[2].shape.elements();
  return std::max(rule::partial_bytes(in[1], width), rule::partial_bytes(of_o, width)) +
         static_cast<std::size_t>(o.rows()) * tensor::size_of(rule::wide(in[0].dtype));
}

std::vector<Meta> TokenSmear::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 4, 6);
  check_smear(*this, in, 4);
  return {in[0]};
}
std::vector<BackwardStep> TokenSmear::backward() const {
  return {{std::make_shared<TokenSmearBackward>(bos, closed),
           {input(0), input(1), input(2), input(3), grad(0), input(4), input(5)},
           {0, 2, 3}}};
}
std::string TokenSmear::attributes() const {
  return fmt::format("bos={}{}", bos, closed.empty() ? "" : fmt::format(" closed={}", closed.size()));
}

std::vector<Meta> TokenSmearBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 5, 7);
  check_smear(*this, in, 5);
  rule::exactly(*this, in, 4, in[0]);
  return {in[0], in[2], in[3]};
}
std::size_t TokenSmearBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  // The sums, and two numbers for each row.
  return rule::partial_bytes(in[0], in[2].shape.elements() + 1) +
         2 * static_cast<std::size_t>(in[0].shape.rows()) * tensor::size_of(rule::wide(in[0].dtype));
}

}  // namespace fairway::ops
