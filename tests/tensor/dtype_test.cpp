#include "fairway/tensor/dtype.h"

#include <gtest/gtest.h>

#include <cmath>
#include <limits>

namespace fairway::tensor {
namespace {

std::uint32_t bits(float v) { return std::bit_cast<std::uint32_t>(v); }
bool is_nan16(std::uint16_t half) { return (half & 0x7fff) > 0x7c00; }

TEST(DType, NamesAndSizes) {
  EXPECT_EQ(dtype_name(DType::bf16), "bf16");
  EXPECT_EQ(dtype_name(DType::i64), "i64");
  EXPECT_EQ(size_of(DType::i64), 8u);
  EXPECT_EQ(size_of(DType::f32), 4u);
  EXPECT_EQ(size_of(DType::f16), 2u);
  EXPECT_EQ(size_of(DType::u8), 1u);
}

TEST(Half, EveryValueRoundTrips) {
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const f16 half{static_cast<std::uint16_t>(i)};
    const float value = to_float(half);
    if (is_nan16(half.bits)) {
      ASSERT_TRUE(std::isnan(value));
      ASSERT_TRUE(is_nan16(to_f16(value).bits));
    } else {
      ASSERT_EQ(to_f16(value).bits, i);
    }
  }
}

// The definition of IEEE 754 binary16, written out.
TEST(Half, EveryValueIsTheOneOfTheStandard) {
  for (std::uint32_t i = 0; i < 0x7c00; ++i) {
    const int exponent = static_cast<int>(i >> 10);
    const double fraction = (i & 0x3ff) / 1024.0;
    const double expected =
        exponent == 0 ? std::ldexp(fraction, -14) : std::ldexp(1 + fraction, exponent - 15);
    ASSERT_EQ(to_float(f16{static_cast<std::uint16_t>(i)}), expected);
    ASSERT_EQ(to_float(f16{static_cast<std::uint16_t>(i | 0x8000)}), -expected);
  }
  EXPECT_EQ(to_float(f16{0x7c00}), std::numeric_limits<float>::infinity());
  EXPECT_EQ(bits(to_float(f16{0x8000})), 0x80000000u);
}

// Between each pair of neighbours: the middle goes to the even one, its float neighbours to the nearer one.
TEST(Half, RoundsToNearestTiesToEven) {
  for (std::uint32_t i = 0; i < 0x7bff; ++i) {
    const float low = to_float(f16{static_cast<std::uint16_t>(i)});
    const float high = to_float(f16{static_cast<std::uint16_t>(i + 1)});
    const float middle = (low + high) / 2;  // exact in a float
    ASSERT_EQ(to_f16(middle).bits, i + (i & 1));
    ASSERT_EQ(to_f16(std::nextafter(middle, low)).bits, i);
    ASSERT_EQ(to_f16(std::nextafter(middle, high)).bits, i + 1);
    ASSERT_EQ(to_f16(-middle).bits, (i + (i & 1)) | 0x8000);
  }
}

TEST(Half, OverflowAndUnderflow) {
  EXPECT_EQ(to_f16(65504.0f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65519.996f).bits, 0x7bff);
  EXPECT_EQ(to_f16(65520.0f).bits,
            0x7c00);  // the tie between 65504 and "65536" goes to the even one: infinity
  for (float v = 65520.0f; v < 300'000.0f; v *= 1.01f) EXPECT_EQ(to_f16(v).bits, 0x7c00) << v;
  EXPECT_EQ(to_f16(std::numeric_limits<float>::max()).bits, 0x7c00);
  EXPECT_EQ(to_f16(-std::numeric_limits<float>::infinity()).bits, 0xfc00);
  EXPECT_EQ(to_f16(0x1p-25f).bits, 0);  // the tie between 0 and the smallest subnormal
  EXPECT_EQ(to_f16(std::nextafter(0x1p-25f, 1.0f)).bits, 1);
  EXPECT_EQ(to_f16(-std::numeric_limits<float>::denorm_min()).bits, 0x8000);
}

TEST(BFloat, EveryValueRoundTrips) {
  for (std::uint32_t i = 0; i < 65536; ++i) {
    const bf16 value{static_cast<std::uint16_t>(i)};
    if (std::isnan(to_float(value))) {
      ASSERT_TRUE(std::isnan(round_to_bf16(to_float(value))));
    } else {
      ASSERT_EQ(to_bf16(to_float(value)).bits, i);
    }
  }
}

TEST(BFloat, RoundsToNearestTiesToEven) {
  for (std::uint32_t i = 0; i < 0x7f7f; ++i) {
    const std::uint32_t middle = (i << 16) | 0x8000u;
    ASSERT_EQ(to_bf16(std::bit_cast<float>(middle)).bits, i + (i & 1));
    ASSERT_EQ(to_bf16(std::bit_cast<float>(middle - 1)).bits, i);
    ASSERT_EQ(to_bf16(std::bit_cast<float>(middle + 1)).bits, i + 1);
  }
  EXPECT_EQ(to_bf16(std::numeric_limits<float>::max()).bits, 0x7f80);
  EXPECT_EQ(to_bf16(-std::numeric_limits<float>::infinity()).bits, 0xff80);
  // A NaN whose payload lies in the lower half only must not become infinity.
  EXPECT_TRUE(std::isnan(round_to_bf16(std::bit_cast<float>(0x7f800001u))));
}

}  // namespace
}  // namespace fairway::tensor
