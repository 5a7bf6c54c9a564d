#pragma once
// Quantised tensors as artifacts store them.

#include "fairway/artifact/artifact.h"
#include "fairway/quant/quantize.h"

namespace fairway::pipeline {

artifact::StoredTensor to_stored(quant::QuantizedTensor&& tensor);
/// The weights that a tensor of a file stands for.
std::vector<float> dequantised(const artifact::StoredTensor& tensor, base::ThreadPool& pool);

}  // namespace fairway::pipeline
