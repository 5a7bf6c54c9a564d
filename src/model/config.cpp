#include "fairway/model/config.h"

#include "fairway/base/error.h"

#include <cmath>
#include <set>

namespace fairway::model {

using base::fail_input;

namespace {

void at_least(const char* key, double value, double least) {
  if (!(value >= least)) fail_input("model.{} = {} is too small (at least {})", key, value, least);
}

void check_layers(const char* key, const std::vector<int>& list, int layers) {
  std::set<int> seen;
  for (int l : list) {
    if (l < 0 || l >= layers)
      fail_input("model.{} names layer {}, but the model has layers 0 to {}", key, l, layers - 1);
    if (!seen.insert(l).second) fail_input("model.{} names layer {} twice", key, l);
  }
}

}  // namespace

void validate(const ModelConfig& c) {
  at_least("vocab_size", c.vocab_size, 2);
  if (c.vocab_size > 65536)
    fail_input("model.vocab_size = {} is over 65536 (token ids are 16 bits)", c.vocab_size);
  at_least("layers", c.layers, 1);
  at_least("width", c.width, 1);
  at_least("heads", c.heads, 1);
  at_least("kv_heads", c.kv_heads, 1);
  at_least("window", c.window, 1);
  if (c.width % c.heads)
    fail_input("model.heads = {} does not divide model.width = {}; choose a divisor", c.heads, c.width);
  if (c.heads % c.kv_heads)
    fail_input("model.kv_heads = {} does not divide model.heads = {}; choose a divisor", c.kv_heads, c.heads);
  if (c.rope_dims < 0 || c.rope_dims % 2 || c.rope_dims > c.head_dim())
    fail_input("model.rope_dims = {} must be even and between 0 and the head size {}", c.rope_dims,
               c.head_dim());
  if (c.rope_rescale_length > 0 && c.rope_dims == 2 && c.window > c.rope_rescale_length)
    fail_input(
        "model.rope_dims = 2 has no rescaled base (its exponent d / (d - 2) is infinite); set "
        "model.rope_rescale_length = 0");
  if (!(c.rope_base > 1)) fail_input("model.rope_base = {} must be over 1", c.rope_base);
  if (!(c.mlp_mult > 0) || c.mlp_width() < 1)
    fail_input("model.mlp_mult = {} gives an empty hidden layer", c.mlp_mult);
  if (c.activation != "relu_square" && c.activation != "leaky_square")
    fail_input("model.activation = \"{}\" is unknown (relu_square or leaky_square)", c.activation);
  if (c.matrix_init != "orthogonal" && c.matrix_init != "uniform")
    fail_input("model.matrix_init = \"{}\" is unknown (orthogonal or uniform)", c.matrix_init);
  if (c.bigram_rows != 0) at_least("bigram_rows", c.bigram_rows, 2), at_least("bigram_dim", c.bigram_dim, 1);
  if (c.ve_dim < 0)
    fail_input("model.ve_dim = {} is negative (0 switches the value embedding off)", c.ve_dim);
  check_layers("ve_layers", c.ve_layers, c.layers);
  check_layers("xsa_layers", c.xsa_layers, c.layers);
  if (c.memory_tokens < 0 || c.memory_tokens >= c.window)
    fail_input("model.memory_tokens = {} must be at least 0 and below model.window = {}", c.memory_tokens,
               c.window);
  if (!(c.softcap > 0)) fail_input("model.softcap = {} must be positive", c.softcap);
  if (!(c.norm_eps > 0)) fail_input("model.norm_eps = {} must be positive", c.norm_eps);
  if (!(c.embed_init_std > 0)) fail_input("model.embed_init_std = {} must be positive", c.embed_init_std);
}

}  // namespace fairway::model
