#include "fairway/model/config.h"

#include "fairway/base/error.h"

#include <cmath>
#include <set>

namespace fairway::model {

using base::fail_input;

namespace {

void check_layers(const char* key, const std::vector<int>& list, int layers) {
  std::set<int> seen;
  for (int l : list) {
    if (l >= layers)
      fail_input("model.{} names layer {}, but the model has layers 0 to {}", key, l, layers - 1);
    if (!seen.insert(l).second) fail_input("model.{} names layer {} twice", key, l);
  }
}

/// Neighbours, in order.
void check_segment(const char* key, const std::vector<int>& list) {
  for (std::size_t i = 1; i < list.size(); ++i)
    if (list[i] != list[i - 1] + 1)
      fail_input("model.{} must name neighbouring layers in order (found {} after {})", key, list[i],
                 list[i - 1]);
}

void check_caseops(const ModelConfig& c) {
  check_layers("loop_layers", c.loop_layers, c.layers);
  check_layers("parallel_layers", c.parallel_layers, c.layers);
  check_segment("loop_layers", c.loop_layers);
  if (c.documents && c.bos_id < 0)
    fail_input("model.documents = true needs model.bos_id, the token that begins a document");
  if (c.smear && c.smear_channels)
    fail_input(
        "model.smear and model.smear_channels = {} are two ways to mix the previous token in; set "
        "model.smear = false",
        c.smear_channels);
  if (c.smear_channels > c.width)
    fail_input("model.smear_channels = {} is over model.width = {}", c.smear_channels, c.width);
  if (c.attn_gate != AttentionGate::none && c.attn_gate_channels > c.width)
    fail_input("model.attn_gate_channels = {} is over model.width = {}", c.attn_gate_channels, c.width);
  if (c.loop_layers.empty() && c.loop_runs > 1)
    fail_input("model.loop_runs = {} needs model.loop_layers, the layers that run again", c.loop_runs);
  if (c.skip_gates && !c.unet_skips) fail_input("model.skip_gates = true needs model.unet_skips = true");
  if (c.memory_tokens && c.smear_channels)
    fail_input(
        "model.memory_tokens and model.smear_channels do not go together: the first positions hold no "
        "token");
  if (c.parallel_layers.empty() || c.parallel != Parallel::lanes) return;
  check_segment("parallel_layers", c.parallel_layers);
  // The lanes part once and join behind the last block, and the first half of the blocks saves one stream.
  if (c.parallel_layers.back() != c.layers - 1)
    fail_input("model.parallel = \"lanes\" needs model.parallel_layers to end with the last layer {}",
               c.layers - 1);
  if (!c.loop_layers.empty() && c.loop_layers.back() >= c.parallel_layers.front())
    fail_input(
        "model.parallel_layers begins at {}, inside model.loop_layers (to {}); two lanes begin behind "
        "them",
        c.parallel_layers.front(), c.loop_layers.back());
  if (c.parallel_layers.front() < c.encoder_slots(false))
    fail_input(
        "model.parallel_layers begins at {}, in the half of the layers that saves skips; two lanes "
        "begin at {} or later",
        c.parallel_layers.front(), c.encoder_slots(false));
}

}  // namespace

void validate(const ModelConfig& c) {
  if (c.width % c.heads)
    fail_input("model.heads = {} does not divide model.width = {}; choose a divisor", c.heads, c.width);
  if (c.heads % c.kv_heads)
    fail_input("model.kv_heads = {} does not divide model.heads = {}; choose a divisor", c.kv_heads, c.heads);
  if (c.rope_dims % 2 || c.rope_dims > c.head_dim())
    fail_input("model.rope_dims = {} must be even and between 0 and the head size {}", c.rope_dims,
               c.head_dim());
  if (c.rope_rescale_length > 0 && c.rope_dims == 2 && c.window > c.rope_rescale_length)
    fail_input(
        "model.rope_dims = 2 has no rescaled base (its exponent d / (d - 2) is infinite); set "
        "model.rope_rescale_length = 0");
  if (!(c.rope_base > 1)) fail_input("model.rope_base = {} must be over 1", c.rope_base);
  if (c.mlp_width() < 1) fail_input("model.mlp_mult = {} gives an empty hidden layer", c.mlp_mult);
  if (c.bigram_rows == 1) fail_input("model.bigram_rows = 1 is too small (at least 2)");
  check_layers("ve_layers", c.ve_layers, c.layers);
  check_layers("xsa_layers", c.xsa_layers, c.layers);
  if (c.memory_tokens >= c.window)
    fail_input("model.memory_tokens = {} must be at least 0 and below model.window = {}", c.memory_tokens,
               c.window);
  check_caseops(c);
  if (!(c.norm_eps > 0)) fail_input("model.norm_eps = {} must be positive", c.norm_eps);
  if (!(c.embed_init_std > 0)) fail_input("model.embed_init_std = {} must be positive", c.embed_init_std);
}

}  // namespace fairway::model
