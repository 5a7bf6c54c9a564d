// The working copy of the weights: what products read (architecture, sections 3 and 4).

#include "fairway/model/family.h"
#include "fairway/ops/working_rows.h"

#include "folding.h"

#include <memory>

namespace fairway::model {

using graph::absent;
using graph::ValueId;

namespace {

/// A matrix that products read, the scale that can be folded into it ("" for none).
struct Linear {
  std::string weight, scale;
  bool table = false;
};

std::vector<Linear> linears(const ModelConfig& c) {
  std::vector<Linear> list = {{"tok_emb.weight", "", true}};
  if (c.projects_bigram()) list.push_back({"bigram.proj.weight", ""});
  if (c.projects_value_embedding()) list.push_back({"ve_shared.proj.weight", ""});
  for (int l = 0; l < c.layers; ++l) {
    const auto name = fmt::format("blocks.{}.", l);
    list.push_back({name + "attn.qkv.weight", ""});
    for (const auto* matrix : {"attn.proj.weight", "mlp.proj.weight"})
      list.push_back({name + matrix, folded_scale(name + matrix)});
    list.push_back({name + "mlp.fc.weight", ""});
  }
  return list;
}

int levels(const RefreshOptions& o, const graph::ParameterLayout& layout, const Linear& linear) {
  if (!o.quantize || linear.table) return 0;
  const auto parts = layout.parts(linear.weight);
  const int q = o.quantize(parts.front());
  for (const auto& part : parts)
    base::check(o.quantize(part) == q, "parts of '{}' are quantised differently", linear.weight);
  return q;
}

}  // namespace

graph::Graph build_refresh(const ModelConfig& config, const graph::ParameterLayout& layout,
                           const RefreshOptions& o) {
  graph::Builder b(o.quantize ? "refresh-quantised" : "refresh", layout, o.dtype);
  const auto result = o.dtype == tensor::DType::bf16 ? o.dtype : tensor::DType::f32;
  for (const auto& linear : linears(config)) {
    b.scope(linear.weight);
    const bool folded = o.fold_scales && !linear.scale.empty();
    b.write(std::make_shared<const ops::WorkingRows>(levels(o, layout, linear), result),
            {b.parameter(linear.weight), folded ? b.parameter(linear.scale) : absent},
            {b.working(linear.weight)});
  }
  return b.finish();
}

graph::Graph build_unfold(const ModelConfig& config, const graph::ParameterLayout& layout,
                          const RefreshOptions& o) {
  graph::Builder b(o.quantize ? "unfold-quantised" : "unfold", layout, o.dtype);
  for (const auto& linear : linears(config)) {
    if (linear.scale.empty()) continue;
    if (o.trainable && !o.trainable(linear.weight) && !o.trainable(linear.scale)) continue;
    b.scope(linear.weight);
    const auto gradient = b.gradient(linear.weight);
    b.write(std::make_shared<const ops::WorkingRowsBackward>(levels(o, layout, linear)),
            {b.parameter(linear.weight), b.parameter(linear.scale), gradient},
            {gradient, b.gradient(linear.scale)});
  }
  return b.finish();
}

}  // namespace fairway::model
