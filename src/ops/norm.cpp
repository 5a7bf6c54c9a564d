#include "fairway/ops/norm.h"

#include "chunks.h"
#include "rule.h"

namespace fairway::ops {
namespace {

/// Shape and dtype of one number for each row.
Meta per_row(const Meta& x) { return {rule::wide(x.dtype), rule::leading(x.shape)}; }
Meta per_channel(const Meta& x) { return {rule::wide(x.dtype), {x.shape.columns()}}; }
Meta mix_of(const Meta& x) { return {rule::wide(x.dtype), {2, x.shape.columns()}}; }

/// Partial sums of gradients of `vectors` channels-wide parameters.
std::size_t partial_bytes(const Meta& x, std::int64_t vectors) {
  return static_cast<std::size_t>(most_pieces(x.shape.rows(), x.shape.columns()) * vectors *
                                  x.shape.columns()) *
         tensor::size_of(rule::wide(x.dtype));
}

std::string norm_attributes(float scale, float eps) { return fmt::format("scale={} eps={}", scale, eps); }

}  // namespace

std::vector<Meta> RmsNorm::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 1, 1);
  rule::activation(*this, in, 0);
  return {in[0], per_row(in[0])};
}
std::vector<BackwardStep> RmsNorm::backward() const {
  return {{std::make_shared<RmsNormBackward>(scale), {input(0), output(1), grad(0)}, {0}}};
}
std::string RmsNorm::attributes() const { return norm_attributes(scale, eps); }

std::vector<Meta> RmsNormBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, per_row(in[0]));
  rule::optional(*this, in, 2, in[0]);
  return {in[0]};
}

std::vector<Meta> MixNorm::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, in[0]);
  rule::exactly(*this, in, 2, mix_of(in[0]));
  return {in[0], in[0], per_row(in[0])};
}
std::vector<BackwardStep> MixNorm::backward() const {
  return {{std::make_shared<MixNormBackward>(scale),
           {input(0), input(1), input(2), output(0), output(2), grad(0), grad(1)},
           {0, 1, 2}}};
}
std::string MixNorm::attributes() const { return norm_attributes(scale, eps); }

std::vector<Meta> MixNormBackward::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 7, 7);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, in[0]);
  rule::exactly(*this, in, 2, mix_of(in[0]));
  rule::exactly(*this, in, 3, in[0]);
  rule::exactly(*this, in, 4, per_row(in[0]));
  rule::optional(*this, in, 5, in[0]);
  rule::optional(*this, in, 6, in[0]);
  return {in[0], in[0], in[2]};
}
std::size_t MixNormBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  return partial_bytes(in[0], 2);
}

std::vector<Meta> ResidualNorm::infer(std::span<const Meta> in) const {
  rule::count(*this, in, 3, 3);
  rule::activation(*this, in, 0);
  rule::exactly(*this, in, 1, in[0]);
  rule::exactly(*this, in, 2, per_channel(in[0]));
  return {in[0], in[0], per_row(in[0])};
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
  rule::exactly(*this, in, 1, per_row(in[0]));
  rule::exactly(*this, in, 2, in[0]);
  rule::exactly(*this, in, 3, per_channel(in[0]));
  rule::optional(*this, in, 4, in[0]);
  rule::optional(*this, in, 5, in[0]);
  return {in[0], in[0], in[3]};
}
std::size_t ResidualNormBackward::workspace_bytes(std::span<const Meta> in, std::span<const Meta>) const {
  return partial_bytes(in[0], 1);
}

}  // namespace fairway::ops
