#include "row_kernels.h"

#include <algorithm>
#include <cmath>

#include "clones.h"

namespace fairway::quant::kernels {
namespace {

constexpr int lanes = 16;

// Adding and subtracting 1.5 * 2^23 rounds a small number to the nearest integer, ties to even, in two
// additions that every instruction set has.
constexpr float round_magic = 12582912.0f;

[[gnu::always_inline]] inline float rounded(float x, float low, float high) {
  const float clamped = std::min(std::max(x, low), high);
  return (clamped + round_magic) - round_magic;
}

}  // namespace

FAIRWAY_CLONES float magnitudes(const float* __restrict x, std::int64_t n, float* __restrict out) {
  float bad[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int j = 0; j < lanes; ++j) {
      out[i + j] = std::fabs(x[i + j]);
      bad[j] += 0.0f * x[i + j];
    }
  for (; i < n; ++i) {
    out[i] = std::fabs(x[i]);
    bad[i % lanes] += 0.0f * x[i];
  }
  float total = 0.0f;
  for (const float lane : bad) total += lane;
  return total;
}

FAIRWAY_CLONES float largest(const float* x, std::int64_t n) {
  float best[lanes];
  for (float& lane : best) lane = x[0];
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int j = 0; j < lanes; ++j) best[j] = std::max(best[j], x[i + j]);
  for (; i < n; ++i) best[0] = std::max(best[0], x[i]);
  return *std::max_element(best, best + lanes);
}

FAIRWAY_CLONES void quantize(const float* __restrict x, std::int64_t n, float scale, float low, float high,
                             std::int8_t* __restrict q) {
  for (std::int64_t i = 0; i < n; ++i)
    q[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(rounded(x[i] / scale, low, high)));
}

FAIRWAY_CLONES void quantize_clipped(const float* __restrict x, std::int64_t n, float clip, float scale,
                                     std::int8_t* __restrict q) {
  for (std::int64_t i = 0; i < n; ++i) {
    const float clipped = std::min(std::max(x[i], -clip), clip);
    q[i] = static_cast<std::int8_t>(static_cast<std::int32_t>(rounded(clipped / scale, -127.0f, 127.0f)));
  }
}

FAIRWAY_CLONES double squared_error(const float* x, std::int64_t n, float scale, float low, float high) {
  double sums[lanes] = {};
  std::int64_t i = 0;
  for (; i + lanes <= n; i += lanes)
    for (int j = 0; j < lanes; ++j) {
      const float difference = x[i + j] - rounded(x[i + j] / scale, low, high) * scale;
      sums[j] += static_cast<double>(difference * difference);
    }
  for (; i < n; ++i) {
    const float difference = x[i] - rounded(x[i] / scale, low, high) * scale;
    sums[i % lanes] += static_cast<double>(difference * difference);
  }
  double total = 0.0;
  for (const double sum : sums) total += sum;
  return total;
}

FAIRWAY_CLONES void dequantize(const std::int8_t* __restrict q, std::int64_t n, float scale,
                               float* __restrict out) {
  for (std::int64_t i = 0; i < n; ++i) out[i] = static_cast<float>(q[i]) * scale;
}

}  // namespace fairway::quant::kernels
