#include "fairway/ops/cast_rows.h"

#include "rule.h"

namespace fairway::ops {
namespace {

void check_rows(const Operator& op, std::span<const Meta> in, int q) {
  rule::floating(op, in, 0);
  rule::require(op, in[0].shape.rank() == 2, "input 0 is not [rows, columns]");
  rule::require(op, q >= 0 && q <= 32767, "q is not in [0, 32767]");
  rule::optional(op, in, 1, {in[0].dtype, {in[0].shape[0]}});
}

}  // namespace

std::vector<Meta> CastRows::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 1, 2);
  check_rows(*this, in, q);
  rule::require(*this, result == DType::f32 || result == DType::bf16, "the result is neither f32 nor bf16");
  return {{in[0].dtype == DType::f64 ? DType::f64 : result, in[0].shape}};
}
std::vector<BackwardStep> CastRows::backward() const {
  return {{std::make_shared<CastRowsBackward>(q), {input(0), input(1), grad(0)}, {0, 1}}};
}
std::string CastRows::attributes() const { return q ? fmt::format("q={}", q) : ""; }

std::vector<Meta> CastRowsBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  check_rows(*this, in, q);
  rule::exactly(*this, in, 2, in[0]);
  return {in[0], {in[0].dtype, {in[0].shape[0]}}};
}

}  // namespace fairway::ops
