#pragma once
// A small member of the family with every part, and weights that leave no branch of it silent.

#include "fairway/base/random.h"
#include "model/support.h"

#include <gtest/gtest.h>

#include <vector>

namespace fairway::testing {

using model::ModelConfig;

/// A small member of the family with every part.
inline ModelConfig small() {
  ModelConfig c;
  c.vocab_size = 64;
  c.layers = 4;
  c.width = 48;
  c.heads = 6;
  c.kv_heads = 3;
  c.window = 24;
  c.rope_dims = 4;
  c.rope_rescale_length = 16;
  c.bigram_rows = 37;
  c.bigram_dim = 12;
  c.ve_dim = 10;
  c.ve_layers = {1, 3};
  c.xsa_layers = {2, 3};
  return c;
}

class Family : public ::testing::Test {
 protected:
  base::ThreadPool pool_{2};
  std::vector<std::int32_t> tokens(int n, int vocab) {
    const base::Random random(7, "tokens");
    std::vector<std::int32_t> result(static_cast<std::size_t>(n));
    for (std::size_t i = 0; i < result.size(); ++i)
      result[i] = static_cast<std::int32_t>(random.below(i, static_cast<std::uint64_t>(vocab)));
    return result;
  }
  /// Every parameter moved off its initial value, so that no branch is silent.
  graph::ParameterStore disturbed(const ModelConfig& c, bool gradients = false) {
    graph::ParameterStore store(model::make_layout(c), {}, gradients);
    model::initialise(store, 1, pool_);
    const base::Random random(3, "disturb");
    auto values = store.flat_values().span<float>();
    for (std::size_t i = 0; i < values.size(); ++i) values[i] += 0.2f * static_cast<float>(random.normal(i));
    return store;
  }
};

}  // namespace fairway::testing
