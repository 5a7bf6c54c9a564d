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
  if (!(c.norm_eps > 0)) fail_input("model.norm_eps = {} must be positive", c.norm_eps);
  if (!(c.embed_init_std > 0)) fail_input("model.embed_init_std = {} must be positive", c.embed_init_std);
}

}  // namespace fairway::model
