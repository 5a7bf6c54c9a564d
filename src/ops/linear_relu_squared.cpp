#include "fairway/ops/linear_relu_squared.h"

#include "fairway/ops/matmul.h"
#include "rule.h"

namespace fairway::ops {
namespace {

const Matmul linear(false, true), linear_backward(false, false);
const LinearAdd add{};

std::string attributes_of(float slope, float row_scale) {
  return row_scale == 1 ? fmt::format("slope={}", slope)
                        : fmt::format("slope={} row_scale={}", slope, row_scale);
}
/// The operands of LinearReluSquared's product.
std::array<Meta, 2> product_of(const LinearReluSquared& op, std::span<const Meta> in) {
  return {in[op.row_scale ? 2 : 0], in[1]};
}

}  // namespace

std::vector<Meta> LinearReluSquared::infer(std::span<const Meta> in) const {
  rule::count(*this, in, row_scale ? 4 : 2, row_scale ? 4 : 2);
  const auto product = product_of(*this, in);
  const Meta h = linear.infer(product).front();
  if (row_scale) {
    rule::optional(*this, in, 0, in[2]);
    rule::exactly(*this, in, 3, rule::per_row(in[2]));
  }
  return {h, h};
}
Cost LinearReluSquared::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost = Operator::cost(in, out);
  cost.flops = linear.cost(product_of(*this, in), out.first(1)).flops;
  return cost;
}
std::vector<BackwardStep> LinearReluSquared::backward() const {
  auto steps = linear.backward();
  for (auto& step : steps)
    for (auto& ref : step.reads) {
      if (ref.from == Ref::From::grad_output) ref = grad(1);
      if (row_scale && ref.from == Ref::From::input && ref.index == 0) ref = input(2);
    }
  return steps;
}
std::vector<int> LinearReluSquared::gradient_only() const {
  return row_scale ? std::vector<int>{0} : std::vector<int>{};
}
std::string LinearReluSquared::attributes() const { return attributes_of(slope, row_scale.value_or(1)); }

std::vector<Meta> ReluSquaredLinearAdd::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 4, 5);
  rule::optional(*this, in, 0, in[1]);
  rule::optional(*this, in, 4, rule::per_row(in[1]));
  return {rule::present(in, 3) ? add.infer(in.subspan(1, 3)).front()
                               : linear.infer(in.subspan(1, 2)).front()};
}
Cost ReluSquaredLinearAdd::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  // h and r are named for backward, not read.
  return rule::present(in, 3) ? add.cost(in.subspan(1, 3), out) : linear.cost(in.subspan(1, 2), out);
}
/// The weight first: with slope 0 it is act's last reader but one, whose place dh may take.
std::vector<BackwardStep> ReluSquaredLinearAdd::backward() const {
  const bool from_act = slope == 0;
  return {{std::make_shared<Matmul>(true, false, ProductResult::wide), {grad(0), input(1)}, {2}},
          {std::make_shared<ReluSquaredLinearBackward>(slope, row_scale, from_act),
           {grad(0), input(2), input(from_act ? 1 : 0), input(4)},
           {0}},
          {nullptr, {grad(0)}, {3}}};
}
std::vector<int> ReluSquaredLinearAdd::gradient_only() const {
  return slope == 0 ? std::vector<int>{0} : std::vector<int>{};
}
std::string ReluSquaredLinearAdd::attributes() const { return attributes_of(slope, row_scale); }

std::vector<Meta> ReluSquaredLinearBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 4);
  rule::activation(*this, in, 0);
  rule::optional(*this, in, 3, rule::per_row(in[0]));
  rule::exactly(*this, in, 2, linear_backward.infer(in.first(2)).front());
  return {in[2]};
}
Cost ReluSquaredLinearBackward::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost = Operator::cost(in, out);
  cost.flops = linear_backward.cost(in.first(2), out).flops;
  return cost;
}
}  // namespace fairway::ops
