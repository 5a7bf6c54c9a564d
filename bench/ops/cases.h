#pragma once
#include <string>
#include <vector>

#include "fairway/ops/qkv.h"
#include "ops/harness.h"

namespace fairway::bench {

/// Sizes of a model and of one micro-batch.
struct ModelSizes {
  std::string name;
  std::int64_t batch = 0, length = 0, width = 0, hidden = 0, vocabulary = 0;
  ops::HeadShape heads;
};
ModelSizes full_model();  ///< 27 M parameters, micro-batch 2 x 2048 (docs/spec/model.md section 1)
ModelSizes gpu_model(std::int64_t batch);  ///< 27 M parameters, batch x 2048: 48 fill one H100
ModelSizes demo_small();                   ///< width 128
ModelSizes demo_large();                   ///< width 256

/// Every operator of a training step at these sizes; harness::measure adds the backward steps.
std::vector<ops::harness::OpCase> training_cases(const ModelSizes& m);
/// One new token for each row against a cache of `length` entries.
std::vector<ops::harness::OpCase> decode_cases(const ModelSizes& m);

/// Measures of the machine: one tile of the product library on one thread, and a large copy.
ops::harness::OpCase peak_product();
ops::harness::OpCase peak_copy();
/// The same for a GPU.
ops::harness::OpCase large_product();
ops::harness::OpCase large_copy();

}  // namespace fairway::bench
