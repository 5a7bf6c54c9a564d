#pragma once
// A model of a second's work, and an engine for it.

#include "fairway/exec/engine.h"
#include "fairway/model/family.h"

namespace fairway::exec::testing {

inline model::ModelConfig small_config() {
  model::ModelConfig c;
  c.vocab_size = 48;
  c.layers = 3;
  c.width = 32;
  c.heads = 2;
  c.kv_heads = 1;
  c.window = 16;
  c.rope_dims = 8;
  c.rope_rescale_length = 0;
  c.bigram_rows = 32;
  c.bigram_dim = 8;
  c.ve_dim = 8;
  c.ve_layers = {2};
  c.xsa_layers = {2};
  return c;
}

inline ExecutionOptions with_threads(int threads) {
  ExecutionOptions options;
  options.threads = threads;
  return options;
}

}  // namespace fairway::exec::testing
