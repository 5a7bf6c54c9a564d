#include "fairway/model/family.h"

#include <fmt/format.h>

#include <algorithm>

namespace fairway::model {

using graph::Group;

graph::ParameterLayout make_layout(const ModelConfig& c) {
  graph::ParameterLayout layout;
  const int kv = c.kv_width();
  layout.add("tok_emb.weight", {c.vocab_size, c.width}, Group::table);
  for (int l = 0; l < c.layers; ++l) {
    const auto block = fmt::format("blocks.{}.", l);
    layout.add_packed(block + "attn.qkv.weight", c.width,
                      {{block + "attn.c_q.weight", c.width},
                       {block + "attn.c_k.weight", kv},
                       {block + "attn.c_v.weight", kv}});
    layout.add(block + "attn.proj.weight", {c.width, c.width}, Group::matrix);
    layout.add(block + "mlp.fc.weight", {c.mlp_width(), c.width}, Group::matrix);
    layout.add(block + "mlp.proj.weight", {c.width, c.mlp_width()}, Group::matrix);
    layout.add(block + "attn.q_gain", {c.heads}, Group::scalar);
    layout.add(block + "attn_scale", {c.width}, Group::scalar);
    layout.add(block + "mlp_scale", {c.width}, Group::scalar);
    layout.add(block + "resid_mix", {2, c.width}, Group::scalar);
  }
  if (c.unet_skips && c.encoder_layers() > 0)
    layout.add("skip_weights", {c.encoder_layers(), c.width}, Group::scalar);
  if (c.smear) layout.add("smear.gate", {c.width}, Group::scalar);
  if (c.bigram_rows) {
    layout.add("bigram.embed.weight", {c.bigram_rows, c.bigram_dim}, Group::table);
    if (c.projects_bigram()) layout.add("bigram.proj.weight", {c.width, c.bigram_dim}, Group::matrix);
    layout.add("bigram.scale", {1}, Group::scalar);
  }
  if (c.has_value_embedding()) {
    layout.add("ve_shared.embed.weight", {c.vocab_size, c.ve_dim}, Group::table);
    if (c.projects_value_embedding()) layout.add("ve_shared.proj.weight", {kv, c.ve_dim}, Group::matrix);
    layout.add("ve_shared.scale", {1}, Group::scalar);
    for (std::size_t i = 0; i < c.ve_layers.size(); ++i)
      layout.add(fmt::format("ve_layer_scales.{}", i), {1}, Group::scalar);
  }
  if (c.memory_tokens) layout.add("memory_tokens", {c.memory_tokens, c.width}, Group::scalar);
  layout.finish();
  return layout;
}

bool has_older_shapes(ModelConfig config, const std::map<std::string, std::int64_t>& elements) {
  const auto fits = [&] {
    const auto layout = make_layout(config);
    return layout.parameters().size() == elements.size() &&
           std::ranges::all_of(layout.parameters(), [&](const auto& p) {
             const auto found = elements.find(p.name);
             return found != elements.end() && found->second == p.elements();
           });
  };
  config.older_shapes = false;
  if (fits()) return false;
  config.older_shapes = true;
  return fits();
}

}  // namespace fairway::model
