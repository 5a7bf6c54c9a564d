#include "fairway/ops/cross_entropy.h"

#include "rule.h"

namespace fairway::ops {
namespace {

void check_logits(const Operator& op, std::span<const Meta> in, float cap) {
  rule::activation(op, in, 0);
  rule::require(op, cap > 0, "cap is not positive");
  rule::require(op, in[0].shape.columns() > 0, "no classes");
  rule::exactly(op, in, 1, {DType::i32, rule::leading(in[0].shape)});
}

std::string cap_attribute(float cap) { return fmt::format("cap={}", cap); }

}  // namespace

std::vector<Meta> SoftcapCrossEntropy::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  check_logits(*this, in, cap);
  rule::require(*this, z_loss >= 0, "z_loss is negative");
  return {rule::per_row(in[0]), rule::per_row(in[0])};
}
std::vector<BackwardStep> SoftcapCrossEntropy::backward() const {
  return {{std::make_shared<SoftcapCrossEntropyBackward>(cap, z_loss),
           {input(0), input(1), output(1), grad(0)},
           {0}}};
}
std::string SoftcapCrossEntropy::attributes() const {
  return z_loss > 0 ? fmt::format("{}, z_loss={}", cap_attribute(cap), z_loss) : cap_attribute(cap);
}

std::vector<Meta> SoftcapCrossEntropyBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 4, 4);
  check_logits(*this, in, cap);
  rule::exactly(*this, in, 2, rule::per_row(in[0]));
  rule::optional(*this, in, 3, rule::per_row(in[0]));
  return {in[0]};
}

std::vector<Meta> Softcap::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 1, 1);
  rule::activation(*this, in, 0);
  rule::require(*this, cap > 0, "cap is not positive");
  return {{rule::wide(in[0].dtype), in[0].shape}};
}
std::string Softcap::attributes() const { return cap_attribute(cap); }

std::vector<Meta> WeightedSum::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  rule::floating(*this, in, 0);
  rule::exactly(*this, in, 1, in[0]);
  return {{in[0].dtype, {1}}};
}
std::vector<BackwardStep> WeightedSum::backward() const {
  return {{std::make_shared<WeightedSumBackward>(), {input(1), grad(0)}, {0}}};
}

std::vector<Meta> WeightedSumBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 2, 2);
  rule::floating(*this, in, 0);
  rule::exactly(*this, in, 1, {in[0].dtype, {1}});
  return {in[0]};
}

}  // namespace fairway::ops
