#pragma once
#include <cstdint>

#include "fairway/quant/quantize.h"

namespace fairway::quant {

/// What the integers of row r stand for, in the tensor's basis and without what is added to them: out
/// [columns].
void grid_row(const QuantizedTensor& stored, std::int64_t r, float* out);

}  // namespace fairway::quant
