#include "fairway/ops/linear_square.h"

#include "fairway/ops/activation.h"
#include "fairway/ops/matmul.h"
#include "parts.h"
#include "rule.h"
#include "square_parts.h"

namespace fairway::ops {
namespace {

const Matmul linear(false, true), linear_backward(false, false);
const LinearAdd add{};

std::string attributes_of(float slope, float row_scale) {
  return row_scale == 1 ? fmt::format("slope={}", slope)
                        : fmt::format("slope={} row_scale={}", slope, row_scale);
}
/// The fused kernel of a GPU takes this product.
bool is_fused(const Meta& operand, const Meta& result) {
  return operand.dtype == DType::bf16 && square_product_fits(result.shape.columns(), operand.shape.columns());
}

/// The operands of LinearSquare's product.
std::array<Meta, 2> product_of(const LinearSquare& op, std::span<const Meta> in) {
  return {in[op.row_scale ? 2 : 0], in[1]};
}

}  // namespace

std::vector<Meta> LinearSquare::infer(std::span<const Meta> in) const {
  rule::count(*this, in, row_scale ? 4 : 2, row_scale ? 4 : 2);
  const auto product = product_of(*this, in);
  const Meta h = linear.infer(product).front();
  if (row_scale) {
    rule::optional(*this, in, 0, in[2]);
    rule::exactly(*this, in, 3, rule::per_row(in[2]));
  }
  return {h, h};
}
Cost LinearSquare::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost = Operator::cost(in, out);
  cost.flops = linear.cost(product_of(*this, in), out.first(1)).flops;
  return cost;
}
std::vector<BackwardStep> LinearSquare::backward() const {
  auto steps = linear.backward();
  for (auto& step : steps)
    for (auto& ref : step.reads) {
      if (ref.from == Ref::From::grad_output) ref = grad(1);
      if (row_scale && ref.from == Ref::From::input && ref.index == 0) ref = input(2);
    }
  return steps;
}
std::vector<int> LinearSquare::gradient_only() const {
  return row_scale ? std::vector<int>{0} : std::vector<int>{};
}
/// By parts: the rows made after all, then the product's own.
std::size_t LinearSquare::workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const {
  const auto product = product_of(*this, in);
  if (is_fused(product[0], out[0])) return 0;
  const std::size_t rows = row_scale ? rounded_up(product[0].bytes()) : 0;
  return rows + linear.workspace_bytes(product, out.first(1));
}
std::string LinearSquare::attributes() const { return attributes_of(slope, row_scale.value_or(1)); }

std::vector<Meta> SquareLinearAdd::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 4, 5);
  rule::optional(*this, in, 0, in[1]);
  rule::optional(*this, in, 4, rule::per_row(in[1]));
  return {add.infer(in.subspan(1, 3)).front()};
}
Cost SquareLinearAdd::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  return add.cost(in.subspan(1, 3), out);  // h and r are named for backward, not read
}
/// The weight first: with slope 0 it is act's last reader but one, whose place dh may take.
std::vector<BackwardStep> SquareLinearAdd::backward() const {
  const bool from_act = slope == 0;
  return {{std::make_shared<Matmul>(true, false, ProductResult::wide), {grad(0), input(1)}, {2}},
          {std::make_shared<SquareLinearBackward>(slope, row_scale, from_act),
           {grad(0), input(2), input(from_act ? 1 : 0), input(4)},
           {0}},
          {nullptr, {grad(0)}, {3}}};
}
std::vector<int> SquareLinearAdd::gradient_only() const {
  return slope == 0 ? std::vector<int>{0} : std::vector<int>{};
}
std::size_t SquareLinearAdd::workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const {
  return add.workspace_bytes(in.subspan(1, 3), out);
}
std::string SquareLinearAdd::attributes() const { return attributes_of(slope, row_scale); }

std::vector<Meta> SquareLinearBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 4);
  rule::activation(*this, in, 0);
  rule::optional(*this, in, 3, rule::per_row(in[0]));
  rule::exactly(*this, in, 2, linear_backward.infer(in.first(2)).front());
  return {in[2]};
}
Cost SquareLinearBackward::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost = Operator::cost(in, out);
  cost.flops = linear_backward.cost(in.first(2), out).flops;
  return cost;
}
/// By parts: the gradient of act, the scaled rows of du, then the product's own.
std::size_t SquareLinearBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const {
  if (is_fused(in[0], in[2])) return 0;
  const std::size_t rows = rule::present(in, 3) ? rounded_up(in[0].bytes()) : 0;
  return rounded_up(in[2].bytes()) + rows + linear_backward.workspace_bytes(in.first(2), out);
}

namespace {

constexpr Write set[] = {Write::set};

}  // namespace

void linear_square_by_parts(const KernelArgs& args, const SquareParts& parts) {
  const auto& op = static_cast<const LinearSquare&>(args.op);
  for (const Write w : args.write)
    base::check(w == Write::set, "{}: its results are not added to", op.name());
  const View &act = args.out[0], &h = args.out[1].data ? args.out[1] : act;
  if (!h.data) return;
  View workspace = args.workspace;
  const View rows = op.row_scale ? scaled_rows(parts.scale_rows, *op.row_scale, args.in[2], args.in[3],
                                               workspace, args.context)
                                 : args.in[0];
  const View in[] = {rows, args.in[1]};
  parts.matmul({linear, in, std::span(&h, 1), set, workspace, args.context});
  if (!act.data) return;
  parts.leaky_square({LeakySquare(op.slope), std::span(&h, 1), std::span(&act, 1), set, {}, args.context});
}

void square_linear_add_by_parts(const KernelArgs& args, const SquareParts& parts) {
  parts.linear_add({add, args.in.subspan(1, 3), args.out, args.write, args.workspace, args.context});
}

void square_linear_backward_by_parts(const KernelArgs& args, const SquareParts& parts) {
  if (!args.out[0].data) return;
  const auto& op = static_cast<const SquareLinearBackward&>(args.op);
  const View& h = args.in[2];
  View workspace = args.workspace;
  const View dact = take(workspace, h.meta);
  const bool scaled = args.in.size() > 3 && args.in[3].data;
  const View rows =
      scaled ? scaled_rows(parts.scale_rows, op.row_scale, args.in[0], args.in[3], workspace, args.context)
             : args.in[0];
  const View product[] = {rows, args.in[1]};
  parts.matmul({linear_backward, product, std::span(&dact, 1), set, workspace, args.context});
  const View in[] = {h, dact};
  parts.leaky_square_backward(
      {LeakySquareBackward(op.slope, op.from_act), in, args.out, args.write, {}, args.context});
}

}  // namespace fairway::ops
