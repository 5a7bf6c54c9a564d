#include "fairway/ops/norm.h"

#include "fairway/ops/matmul.h"

#include "rule.h"

namespace fairway::ops {
namespace {

Meta per_channel(const Meta& x) { return {rule::wide(x.dtype), {x.shape.columns()}}; }
Meta mix_of(const Meta& x) { return {rule::wide(x.dtype), {2, x.shape.columns()}}; }

std::string norm_attributes(float scale, float eps) { return fmt::format("scale={} eps={}", scale, eps); }
const char* word(bool flag, const char* text) { return flag ? text : ""; }

}  // namespace

std::vector<Meta> RmsNorm::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 1, 2);
  rule::activation(*this, in, 0);
  rule::optional(*this, in, 1, row_squares_of(in[0]));
  return {in[0], rule::per_row(in[0])};
}
std::vector<BackwardStep> RmsNorm::backward() const {
  return {{std::make_shared<RmsNormBackward>(scale, deferred), {input(0), output(1), grad(0)}, {0}}};
}
std::string RmsNorm::attributes() const { return norm_attributes(scale, eps) + word(deferred, " deferred"); }

std::vector<Meta> RmsNormBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, rule::per_row(in[0]));
  rule::optional(*this, in, 2, in[0]);
  return {in[0]};
}

std::string RmsNormBackward::attributes() const {
  return fmt::format("scale={}{}", scale, word(prescaled, " prescaled"));
}

std::vector<Meta> MixNorm::infer(std::span<const Meta> in) const {
  const std::size_t inputs = skip ? 5 : 3;
  rule::count(*this, in, inputs, inputs);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, in[0]);
  rule::exactly(*this, in, 2, mix_of(in[0]));
  if (skip) {
    rule::exactly(*this, in, 3, in[0]);
    rule::exactly(*this, in, 4, per_channel(in[0]));
  }
  return {in[0], in[0], rule::per_row(in[0])};
}
std::vector<BackwardStep> MixNorm::backward() const {
  BackwardStep step{std::make_shared<MixNormBackward>(scale, deferred, skip),
                    {input(0), input(1), input(2), output(2), grad(0), grad(1)},
                    {0, 1, 2}};
  if (skip) {
    step.reads.insert(step.reads.end(), {input(3), input(4)});
    step.grads.insert(step.grads.end(), {3, 4});
  }
  return {step};
}
std::string MixNorm::attributes() const {
  return norm_attributes(scale, eps) + word(deferred, " deferred") + word(skip, " skip");
}

std::vector<Meta> MixNormBackward::infer(std::span<const Meta> in) const {
  const std::size_t inputs = skip ? 8 : 6;
  rule::count(*this, in, inputs, inputs);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, in[0]);
  rule::exactly(*this, in, 2, mix_of(in[0]));
  rule::exactly(*this, in, 3, rule::per_row(in[0]));
  rule::optional(*this, in, 4, in[0]);
  rule::optional(*this, in, 5, in[0]);
  if (!skip) return {in[0], in[0], in[2]};
  rule::exactly(*this, in, 6, in[0]);
  rule::exactly(*this, in, 7, per_channel(in[0]));
  return {in[0], in[0], in[2], in[0], in[7]};
}
std::size_t MixNormBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  return rule::partial_bytes(in[0], (skip ? 3 : 2) * in[0].shape.columns());
}
std::vector<InPlace> MixNormBackward::in_place() const {
  if (skip) return {{0, 5}, {0, 4}, {3, 4}, {3, 5}};
  return {{0, 5}, {0, 4}};
}
std::string MixNormBackward::attributes() const {
  return fmt::format("scale={}{}{}", scale, word(prescaled, " prescaled"), word(skip, " skip"));
}

std::vector<Meta> ResidualNorm::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, in[0]);
  rule::exactly(*this, in, 2, per_channel(in[0]));
  return {in[0], in[0], rule::per_row(in[0])};
}
std::vector<BackwardStep> ResidualNorm::backward() const {
  return {{std::make_shared<ResidualNormBackward>(scale),
           {output(0), output(2), input(1), input(2), grad(0), grad(1)},
           {0, 1, 2}}};
}
std::string ResidualNorm::attributes() const { return norm_attributes(scale, eps); }

std::vector<Meta> ResidualNormBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 6, 6);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, rule::per_row(in[0]));
  rule::exactly(*this, in, 2, in[0]);
  rule::exactly(*this, in, 3, per_channel(in[0]));
  rule::optional(*this, in, 4, in[0]);
  rule::optional(*this, in, 5, in[0]);
  return {in[0], in[0], in[3]};
}
std::size_t ResidualNormBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  return rule::partial_bytes(in[0], in[0].shape.columns());
}

}  // namespace fairway::ops
