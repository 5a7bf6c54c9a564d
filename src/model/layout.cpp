// Every parameter of the family, with all that is known about it (Parameter): the one place to declare one.

#include "fairway/model/family.h"

#include <algorithm>
#include <cmath>

namespace fairway::model {

using graph::Group;
using graph::Parameter;
using graph::Role;
using graph::Start;
using Kind = Start::Kind;

namespace {

class Layout {
 public:
  explicit Layout(const ModelConfig& config) : c_(config) {}

  graph::ParameterLayout run() {
    add_embedding("tok_emb.weight", {c_.vocab_size, c_.width}, {Kind::normal, c_.embed_init_std}, true);
    for (int l = 0; l < c_.layers; ++l) add_layer(l);
    if (c_.skip_rows() > 0) add_scalar("skip_weights", {c_.skip_rows(), c_.width}, 1.0f);
    if (c_.skip_gates && c_.skip_rows() > 0) add_scalar("skip_gates", {c_.skip_rows(), c_.width}, 0.0f);
    if (!c_.parallel_layers.empty() && c_.parallel == Parallel::lanes) {
      add_scalar("parallel_resid_lambdas", {c_.layers, 2}, 1.1f);
      add_scalar("parallel_post_lambdas", {c_.layers, 2, 2}, 1.0f);
    }
    if (c_.smear) add_scalar("smear.gate", {c_.width}, 0.0f);
    if (c_.smear_channels) {
      add_scalar("smear_gate.weight", {1, c_.smear_channels}, 0.0f);
      add_scalar("smear_lambda", {1}, 0.0f);
    }
    if (c_.bigram_rows) {
      add_embedding("bigram.embed.weight", {c_.bigram_rows, c_.bigram_dim}, {});
      if (c_.projects_bigram())
        layout_.add(
            matrix("bigram.proj.weight", {c_.width, c_.bigram_dim}, Role::projection, shared_start()));
      add_scalar("bigram.scale", {1}, 0.05f);
    }
    if (c_.has_value_embedding()) add_value_embedding();
    if (c_.memory_tokens)  // PR 398
      layout_.add({.name = "memory_tokens",
                   .shape = {c_.memory_tokens, c_.width},
                   .group = Group::scalar,
                   .start = {Kind::normal, 0.02f}});
    layout_.finish();
    return std::move(layout_);
  }

 private:
  void add_layer(int l) {
    const auto block = fmt::format("blocks.{}.", l);
    const int d = c_.width, kv = c_.kv_width();
    const auto of_layer = [&](const char* name, tensor::Shape shape, Role role, Start start) {
      auto p = matrix(block + name, shape, role, start);
      p.layer = l;
      return p;
    };
    const auto vector = [&](const char* name, tensor::Shape shape, Role role, Start start) {
      layout_.add({.name = block + name,
                   .shape = shape,
                   .group = Group::scalar,
                   .role = role,
                   .start = start,
                   .layer = l});
    };
    layout_.add_packed(block + "attn.qkv.weight",
                       {of_layer("attn.c_q.weight", {d, d}, Role::attention, matrix_start(1)),
                        of_layer("attn.c_k.weight", {kv, d}, Role::attention, matrix_start(1)),
                        of_layer("attn.c_v.weight", {kv, d}, Role::attention, matrix_start(1))});
    layout_.add(of_layer("attn.proj.weight", {d, d}, Role::attention, {}));
    layout_.add(of_layer("mlp.fc.weight", {c_.mlp_width(), d}, Role::mlp, matrix_start(1)));
    layout_.add(of_layer("mlp.proj.weight", {d, c_.mlp_width()}, Role::mlp, {}));
    vector("attn.q_gain", {c_.heads}, Role::attention, {Kind::constant, c_.q_gain_init});
    if (c_.attn_gate != AttentionGate::none)
      vector("attn.attn_gate_w", {c_.heads, c_.attn_gate_channels}, Role::other, {});
    vector("attn_scale", {d}, Role::scale, {Kind::constant, 1});
    vector("mlp_scale", {d}, Role::scale, {Kind::constant, 1});
    vector("resid_mix", {2, d}, Role::scale, {Kind::first_row, 1});
  }

  void add_value_embedding() {
    const int kv = c_.kv_width();
    add_embedding("ve_shared.embed.weight", {c_.vocab_size, c_.ve_dim}, {Kind::normal, c_.ve_init_std});
    if (c_.projects_value_embedding())
      layout_.add(matrix("ve_shared.proj.weight", {kv, c_.ve_dim}, Role::projection, shared_start()));
    add_scalar("ve_shared.scale", {1}, 0.1f);
    for (std::size_t i = 0; i < c_.ve_layers.size(); ++i)
      add_scalar(fmt::format("ve_layer_scales.{}", i), {1}, 1.0f);
  }

  void add_embedding(std::string name, tensor::Shape shape, Start start, bool multiplied = false) {
    layout_.add({.name = std::move(name),
                 .shape = shape,
                 .group = Group::embedding,
                 .role = Role::embedding,
                 .start = start,
                 .multiplied = multiplied});
  }
  void add_scalar(std::string name, tensor::Shape shape, float value) {
    layout_.add(
        {.name = std::move(name), .shape = shape, .group = Group::scalar, .start = {Kind::constant, value}});
  }
  static Parameter matrix(std::string name, tensor::Shape shape, Role role, Start start) {
    return {.name = std::move(name), .shape = shape, .role = role, .start = start, .multiplied = true};
  }
  Start matrix_start(double gain) const {
    if (c_.matrix_init == MatrixInit::uniform) return {Kind::uniform, 1};
    return {Kind::orthogonal, gain};
  }
  /// The two shared projections carry the depth scale 1/sqrt(2L).
  Start shared_start() const { return matrix_start(1.0 / std::sqrt(2.0 * c_.layers)); }

  const ModelConfig& c_;
  graph::ParameterLayout layout_;
};

}  // namespace

graph::ParameterLayout make_layout(const ModelConfig& config) { return Layout(config).run(); }

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
