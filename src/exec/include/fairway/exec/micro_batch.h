#pragma once
// How large the batches of programs are.

#include "fairway/tensor/device.h"

#include <algorithm>
#include <cstdint>

namespace fairway::exec {

/// Tokens in a program's batch that keep every product at its full rate; more only takes memory.
inline std::int64_t full_rate_tokens(const tensor::Device& device) {
  return device.is_cuda() ? 98'304 : 4096;
}

/// The same for test-time training: on a GPU 64 windows of 2,048, which divide its steps of 2^n windows.
inline std::int64_t adaptation_tokens(const tensor::Device& device) {
  return device.is_cuda() ? 131'072 : full_rate_tokens(device);
}

/// Windows in a batch of so many tokens, of `windows` that there are.
inline int rows_for(std::int64_t tokens, int window, std::int64_t windows = 1 << 30) {
  return static_cast<int>(std::clamp<std::int64_t>(windows, 1, std::max<std::int64_t>(1, tokens / window)));
}

/// The largest divisor of a step's `rows` that is at most `most` and fits; 0: not even one row does.
template <class Fits>
int largest_divisor(std::int64_t rows, int most, const Fits& fits) {
  while (most >= 1 && (rows % most != 0 || !fits(most))) --most;
  return most;
}

}  // namespace fairway::exec
