#pragma once
#include <cstdint>
#include <string_view>

#include "fairway/tensor/dtype.h"

namespace fairway::ops::cpu {

/// Throws a check error: an index that a kernel of `op` read lies outside [0, limit).
[[noreturn]] void index_fault(std::string_view op, std::int64_t index, std::int64_t limit);

/// Throws a check error: a kernel was given activations that only a GPU computes with.
[[noreturn]] void dtype_fault(tensor::DType dtype);

}  // namespace fairway::ops::cpu
