#include "fairway/ops/linear_square.h"

#include "fairway/ops/activation.h"
#include "fairway/ops/matmul.h"
#include "rule.h"
#include "square_parts.h"

namespace fairway::ops {
namespace {

const Matmul linear(false, true), linear_backward(false, false);
const LinearAdd add{};

std::size_t rounded_up(std::size_t bytes) { return (bytes + 255) / 256 * 256; }
std::string slope_text(float slope) { return fmt::format("slope={}", slope); }

}  // namespace

std::vector<Meta> LinearSquare::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  const Meta h = linear.infer(in).front();
  return {h, h};
}
Cost LinearSquare::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost = Operator::cost(in, out);
  cost.flops = linear.cost(in, out.first(1)).flops;
  return cost;
}
std::vector<BackwardStep> LinearSquare::backward() const {
  auto steps = linear.backward();
  for (auto& step : steps)
    for (auto& ref : step.reads)
      if (ref.from == Ref::From::grad_output) ref = grad(1);
  return steps;
}
std::size_t LinearSquare::workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const {
  return linear.workspace_bytes(in, out.first(1));
}
std::string LinearSquare::attributes() const { return slope_text(slope); }

std::vector<Meta> SquareLinearAdd::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 4, 4);
  rule::optional(*this, in, 0, in[1]);
  return add.infer(in.subspan(1));
}
Cost SquareLinearAdd::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  return add.cost(in.subspan(1), out);  // h is named for backward, not read
}
std::vector<BackwardStep> SquareLinearAdd::backward() const {
  return {{std::make_shared<SquareLinearBackward>(slope), {grad(0), input(2), input(0)}, {0}},
          {std::make_shared<Matmul>(true, false, ProductResult::wide), {grad(0), input(1)}, {2}},
          {nullptr, {grad(0)}, {3}}};
}
std::size_t SquareLinearAdd::workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const {
  return add.workspace_bytes(in.subspan(1), out);
}
std::string SquareLinearAdd::attributes() const { return slope_text(slope); }

std::vector<Meta> SquareLinearBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 2, linear_backward.infer(in.first(2)).front());
  return {in[2]};
}
Cost SquareLinearBackward::cost(std::span<const Meta> in, std::span<const Meta> out) const {
  Cost cost = Operator::cost(in, out);
  cost.flops = linear_backward.cost(in.first(2), out).flops;
  return cost;
}
/// The gradient of act, then the product's own; nothing where a GPU needs neither.
std::size_t SquareLinearBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta> out) const {
  if (in[0].dtype == DType::bf16 && square_product_fits(in[2].shape.columns(), in[0].shape.columns()))
    return 0;
  return rounded_up(in[2].bytes()) + linear_backward.workspace_bytes(in.first(2), out);
}

void linear_square_by_parts(const KernelArgs& args, const SquareParts& parts) {
  const auto& op = static_cast<const LinearSquare&>(args.op);
  for (const Write w : args.write)
    base::check(w == Write::set, "{}: its results are not added to", op.name());
  const View &act = args.out[0], &h = args.out[1].data ? args.out[1] : act;
  if (!h.data) return;
  constexpr Write set[] = {Write::set};
  parts.matmul({linear, args.in, std::span(&h, 1), set, args.workspace, args.context});
  if (!act.data) return;
  parts.leaky_square({LeakySquare(op.slope), std::span(&h, 1), std::span(&act, 1), set, {}, args.context});
}

void square_linear_add_by_parts(const KernelArgs& args, const SquareParts& parts) {
  parts.linear_add({add, args.in.subspan(1), args.out, args.write, args.workspace, args.context});
}

void square_linear_backward_by_parts(const KernelArgs& args, const SquareParts& parts) {
  if (!args.out[0].data) return;
  const View& h = args.in[2];
  const View dact{args.workspace.data, h.meta};
  const std::size_t own = rounded_up(h.bytes());
  View rest = args.workspace;
  rest.data = static_cast<std::byte*>(rest.data) + own;
  constexpr Write set[] = {Write::set};
  parts.matmul({linear_backward, args.in.first(2), std::span(&dact, 1), set, rest, args.context});
  const View in[] = {h, dact};
  const LeakySquareBackward op(static_cast<const SquareLinearBackward&>(args.op).slope);
  parts.leaky_square_backward({op, in, args.out, args.write, {}, args.context});
}

}  // namespace fairway::ops
