#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace fairway::tensor {

enum class DType : std::uint8_t { f32, f64, bf16, f16, i8, u8, i32, i64 };

constexpr std::size_t size_of(DType t) {
  switch (t) {
    case DType::f64:
    case DType::i64:
      return 8;
    case DType::f32:
    case DType::i32:
      return 4;
    case DType::bf16:
    case DType::f16:
      return 2;
    default:
      return 1;
  }
}
std::string_view dtype_name(DType t);  ///< "f32", ...

/// Storage of a bfloat16: the upper half of a float. Arithmetic happens in float.
struct bf16 {
  std::uint16_t bits = 0;
};
/// Storage of an IEEE half.
struct f16 {
  std::uint16_t bits = 0;
  bool operator==(const f16&) const = default;  ///< of the bits
};

constexpr float to_float(bf16 v) { return std::bit_cast<float>(static_cast<std::uint32_t>(v.bits) << 16); }
/// Round to nearest, ties to even; NaN stays NaN.
constexpr bf16 to_bf16(float v) {
  auto u = std::bit_cast<std::uint32_t>(v);
  if ((u & 0x7fffffffu) > 0x7f800000u) return {static_cast<std::uint16_t>((u >> 16) | 0x40u)};
  return {static_cast<std::uint16_t>((u + 0x7fffu + ((u >> 16) & 1u)) >> 16)};
}
constexpr float round_to_bf16(float v) { return to_float(to_bf16(v)); }
float to_float(f16 v);
f16 to_f16(float v);  ///< round to nearest, ties to even; overflow gives infinity

template <class T>
struct dtype_of;
template <>
struct dtype_of<float> {
  static constexpr DType value = DType::f32;
};
template <>
struct dtype_of<double> {
  static constexpr DType value = DType::f64;
};
template <>
struct dtype_of<bf16> {
  static constexpr DType value = DType::bf16;
};
template <>
struct dtype_of<f16> {
  static constexpr DType value = DType::f16;
};
template <>
struct dtype_of<std::int8_t> {
  static constexpr DType value = DType::i8;
};
template <>
struct dtype_of<std::uint8_t> {
  static constexpr DType value = DType::u8;
};
template <>
struct dtype_of<std::int32_t> {
  static constexpr DType value = DType::i32;
};
template <>
struct dtype_of<std::int64_t> {
  static constexpr DType value = DType::i64;
};

}  // namespace fairway::tensor
