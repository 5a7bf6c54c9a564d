#include "fairway/ops/two_lanes.h"

#include "rule.h"

namespace fairway::ops {
namespace {

void check_lanes(const Operator& op, rule::Metas in) {
  rule::activation(op, in, 0);
  const DType wide = rule::wide(in[0].dtype);
  for (std::size_t i = 1; i < 4; ++i) rule::exactly(op, in, i, in[0]);
  for (std::size_t i = 4; i < 6; ++i) rule::exactly(op, in, i, {wide, {in[0].shape.columns()}});
  rule::exactly(op, in, 6, {wide, {2}});
  rule::exactly(op, in, 7, {wide, {2, 2}});
}

}  // namespace

std::vector<Meta> TwoLanes::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 8, 8);
  check_lanes(*this, in);
  if (join) return {in[0]};
  return {in[0], in[1]};
}
std::vector<BackwardStep> TwoLanes::backward() const {
  std::vector<Ref> reads;
  for (int i = 0; i < 8; ++i) reads.push_back(input(i));
  for (int i = 0; i < (join ? 1 : 2); ++i) reads.push_back(grad(i));
  return {{std::make_shared<TwoLanesBackward>(join), std::move(reads), {0, 1, 2, 3, 4, 5, 6, 7}}};
}
std::string TwoLanes::attributes() const { return join ? "join" : ""; }

std::vector<Meta> TwoLanesBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 9, join ? 9 : 10);
  check_lanes(*this, in);
  if (join) rule::exactly(*this, in, 8, in[0]);
  for (std::size_t i = 8; i < 10; ++i) rule::optional(*this, in, i, in[0]);
  return {in.begin(), in.begin() + 8};
}
std::size_t TwoLanesBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  // Six sums of each channel for each split, and their totals.
  const auto width = 6 * in[0].shape.columns();
  return rule::partial_bytes(in[0], width) +
         static_cast<std::size_t>(width) * tensor::size_of(rule::wide(in[0].dtype));
}

}  // namespace fairway::ops
