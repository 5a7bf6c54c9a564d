#pragma once
// The golden models: configuration from the file's metadata, parameters by name.

#include "fairway/base/thread_pool.h"
#include "fairway/graph/program.h"
#include "fairway/model/family.h"
#include "support/compare.h"
#include "support/safetensors.h"

#include <sstream>
#include <string>

namespace fairway::testing {

inline GoldenFile golden(const std::string& name) {
  return read_safetensors(std::string(FAIRWAY_GOLDEN_DIR) + "/" + name + ".safetensors");
}

/// The sizes that every file's metadata names.
inline void set_golden_sizes(model::ModelConfig& c, const GoldenFile& file) {
  const auto j = file.json("config");
  c.vocab_size = j["vocab_size"];
  c.layers = j["num_layers"];
  c.width = j["model_dim"];
  c.heads = j["num_heads"];
  c.kv_heads = j["num_kv_heads"];
  c.mlp_mult = j["mlp_mult"];
  c.window = j["T"];
  c.rope_dims = j["rope_dims"];
}

inline model::ModelConfig golden_config(const GoldenFile& file, const std::string& activation) {
  const auto j = file.json("config");
  model::ModelConfig c;
  set_golden_sizes(c, file);
  c.activation = base::parse_name<model::Activation>(activation).value();
  c.bigram_rows = j["bigram_vocab_size"];
  c.bigram_dim = j["bigram_dim"];
  c.xsa_layers.clear();
  for (int l = c.layers - j["xsa_last_n"].get<int>(); l < c.layers; ++l) c.xsa_layers.push_back(l);
  c.ve_layers.clear();
  c.ve_dim = j["ve_enabled"].get<bool>() ? j["ve_dim"].get<int>() : 0;
  std::stringstream layers(j["ve_layers"].get<std::string>());
  for (std::string part; c.ve_dim && std::getline(layers, part, ',');) c.ve_layers.push_back(std::stoi(part));
  return c;
}

/// Fills every parameter from `param/NAME`.
inline void load(graph::ParameterStore& store, const GoldenFile& file, const std::string& prefix = "param/") {
  for (const auto& p : store.layout().parameters()) {
    const auto values = file.floats(prefix + p.name);
    if (static_cast<std::int64_t>(values.size()) != p.elements())
      throw std::runtime_error("size of " + p.name);
    std::copy(values.begin(), values.end(), store.value(p.name).span<float>().begin());
  }
}

/// Runs on `pool`, with the best instruction set.
inline graph::Runtime runtime_on(base::ThreadPool& pool) {
  graph::Runtime runtime;
  runtime.pool = &pool;
  return runtime;
}

}  // namespace fairway::testing
