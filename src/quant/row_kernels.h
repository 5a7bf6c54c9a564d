#pragma once
// Passes over one row, compiled for several instruction sets; plain fp32 operations in a fixed order, so that
// all give the same bits.

#include <cstdint>

namespace fairway::quant::kernels {

/// out = |x|; returns the sum of 0 * x: 0, or NaN when an entry is a NaN or an infinity.
float magnitudes(const float* x, std::int64_t n, float* out);
/// The largest of n >= 1 numbers that are not NaN; order does not matter to a maximum.
float largest(const float* x, std::int64_t n);
/// q = round(clamp(x / scale, low, high)): with whole bounds the same as clamping after rounding.
void quantize(const float* x, std::int64_t n, float scale, float low, float high, std::int8_t* q);
/// q = round(clamp(clamp(x, -clip, clip) / scale, -127, 127)).
void quantize_clipped(const float* x, std::int64_t n, float clip, float scale, std::int8_t* q);
/// Sum over the row of (x - scale * q)^2, q as above: fp32 differences and squares, summed in fp64 over 16
/// fixed lanes.
double squared_error(const float* x, std::int64_t n, float scale, float low, float high);
/// out = q * scale.
void dequantize(const std::int8_t* q, std::int64_t n, float scale, float* out);

}  // namespace fairway::quant::kernels
