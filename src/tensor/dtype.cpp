#include "fairway/tensor/dtype.h"

#include <array>

namespace fairway::tensor {
namespace {

constexpr std::array<std::string_view, 8> names = {"f32", "f64", "bf16", "f16", "i8", "u8", "i32", "i64"};

}  // namespace

std::string_view dtype_name(DType t) { return names.at(static_cast<std::size_t>(t)); }

float to_float(f16 v) {
  const std::uint32_t sign = static_cast<std::uint32_t>(v.bits & 0x8000u) << 16;
  const std::uint32_t exponent = (v.bits >> 10) & 0x1fu;
  const std::uint32_t fraction = v.bits & 0x3ffu;
  if (exponent == 0) {  // zero or subnormal: fraction * 2^-24, exact in a float
    const float magnitude = static_cast<float>(fraction) * 0x1.0p-24f;
    return std::bit_cast<float>(sign | std::bit_cast<std::uint32_t>(magnitude));
  }
  const std::uint32_t wide = exponent == 31 ? 255u : exponent + 112u;  // 112 = 127 - 15
  return std::bit_cast<float>(sign | (wide << 23) | (fraction << 13));
}

f16 to_f16(float v) {
  const auto u = std::bit_cast<std::uint32_t>(v);
  const auto sign = static_cast<std::uint16_t>((u >> 16) & 0x8000u);
  const std::uint32_t magnitude = u & 0x7fffffffu;
  const auto with_sign = [sign](std::uint32_t bits) { return f16{static_cast<std::uint16_t>(sign | bits)}; };
  if (magnitude > 0x7f800000u)
    return with_sign(0x7e00u | ((magnitude >> 13) & 0x3ffu));  // NaN stays NaN, quiet
  if (magnitude >= 0x477ff000u) return with_sign(0x7c00u);     // from 65520 on: rounds to infinity
  if (magnitude < 0x38800000u) {                               // below 2^-14: subnormal, a multiple of 2^-24
    // Adding 0.5 leaves 24 bits below the point: the addition itself rounds to nearest, ties to even.
    const float shifted = std::bit_cast<float>(magnitude) + 0.5f;
    return with_sign(std::bit_cast<std::uint32_t>(shifted) - std::bit_cast<std::uint32_t>(0.5f));
  }
  const std::uint32_t rounded = magnitude + 0xfffu + ((magnitude >> 13) & 1u);
  return with_sign((rounded - (112u << 23)) >> 13);
}

}  // namespace fairway::tensor
