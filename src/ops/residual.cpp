#include "fairway/ops/residual.h"

#include <algorithm>

#include "rule.h"

namespace fairway::ops {
namespace {

/// Input i holds one factor per channel of x, or one for all.
void check_scale(const Operator& op, std::span<const Meta> in, std::size_t i) {
  const Meta& x = in[0];
  if (in[i].shape == Shape{1} && in[i].dtype == rule::wide(x.dtype)) return;
  rule::exactly(op, in, i, {rule::wide(x.dtype), {x.shape.columns()}});
}

void check_sequence(const Operator& op, std::span<const Meta> in) {
  rule::activation(op, in, 0);
  rule::require(op, in[0].shape.rank() == 3, "input 0 is not [B, S, D]");
}

}  // namespace

std::vector<Meta> ScaledResidual::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, in[0]);
  check_scale(*this, in, 2);
  return {in[0]};
}
std::vector<BackwardStep> ScaledResidual::backward() const {
  return {{std::make_shared<ScaledResidualBackward>(), {input(1), input(2), grad(0)}, {1, 2}},
          {nullptr, {grad(0)}, {0}}};
}

std::vector<Meta> ScaledResidualBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  rule::activation(*this, in, 0);
  check_scale(*this, in, 1);
  rule::exactly(*this, in, 2, in[0]);
  return {in[0], in[1]};
}
std::size_t ScaledResidualBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  // A scalar keeps one 64-byte vector of sums for each split on the CPU; on a GPU the sums of all channels.
  const auto vector = 64 / static_cast<std::int64_t>(tensor::size_of(rule::wide(in[0].dtype)));
  return rule::partial_bytes(in[0], std::max(vector, in[0].shape.columns()));
}

std::vector<Meta> Add::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, in[0]);
  return {in[0]};
}
std::vector<BackwardStep> Add::backward() const {
  return {{nullptr, {grad(0)}, {0}}, {nullptr, {grad(0)}, {1}}};
}

std::vector<Meta> Copy::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 1, 1);
  if (in[0].dtype != DType::i32) rule::activation(*this, in, 0);
  return {in[0]};
}

std::vector<Meta> Smear::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 3);
  check_sequence(*this, in);
  const auto& x = in[0];
  rule::exactly(*this, in, 1, {rule::wide(x.dtype), {x.shape[2]}});
  rule::optional(*this, in, 2, {x.dtype, {x.shape[0], x.shape[2]}});
  return {x};
}
std::vector<BackwardStep> Smear::backward() const {
  return {{std::make_shared<SmearBackward>(), {input(0), input(1), grad(0), input(2)}, {0, 1}}};
}

std::vector<Meta> SmearBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 4);
  check_sequence(*this, in);
  const auto& x = in[0];
  rule::exactly(*this, in, 1, {rule::wide(x.dtype), {x.shape[2]}});
  rule::exactly(*this, in, 2, x);
  rule::optional(*this, in, 3, {x.dtype, {x.shape[0], x.shape[2]}});
  return {x, in[1]};
}
std::size_t SmearBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  return rule::partial_bytes(in[0], in[0].shape.columns());
}

std::vector<Meta> TakeLast::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 1, 1);
  check_sequence(*this, in);
  rule::require(*this, n > 0 && n <= in[0].shape[1], "rows are shorter than the positions to take");
  return {{in[0].dtype, in[0].shape.with(1, n)}};
}
std::vector<BackwardStep> TakeLast::backward() const {
  return {{std::make_shared<TakeLastBackward>(), {input(0), grad(0)}, {0}}};
}
std::string TakeLast::attributes() const { return fmt::format("n={}", n); }

std::vector<Meta> TakeLastBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  check_sequence(*this, in);
  const auto& x = in[0];
  rule::require(*this, in[1].shape.rank() == 3 && in[1].shape[1] <= x.shape[1],
                "input 1 is not [B, n, D] with n <= S");
  rule::exactly(*this, in, 1, {x.dtype, x.shape.with(1, in[1].shape[1])});
  return {x};
}

}  // namespace fairway::ops
