// Entropy coders: round trips, damaged streams, bounded memory, and their comparison.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <cstring>

#include "coder.h"
#include "container.h"
#include "fairway/artifact/artifact.h"
#include "fairway/artifact/coders.h"
#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "synthetic.h"

namespace fairway::artifact {
namespace {

using ::testing::HasSubstr;

class Coders : public ::testing::TestWithParam<Coder> {
 protected:
  static std::string decode_error(std::span<const std::byte> stored, std::uint64_t raw_bytes) {
    try {
      decode(GetParam(), stored, raw_bytes, "x");
    } catch (const base::Error& e) {
      EXPECT_EQ(e.kind(), base::ErrorKind::input) << e.what();
      return e.what();
    }
    return "";
  }
};

TEST_P(Coders, GiveBackAnyBytesAtAnyLevel) {
  const base::Random random(3, "coders");
  for (const std::size_t size : {0, 1, 2, 13, 1000, 70'000})
    for (const int spread : {1, 7, 256})
      for (const int level : {1, 9, 22}) {
        std::vector<std::byte> raw(size);
        for (std::size_t i = 0; i < size; ++i)
          raw[i] = static_cast<std::byte>(random.bits(i) % static_cast<unsigned>(spread));
        const auto stored = encode(GetParam(), raw, level);
        const auto back = decode(GetParam(), stored, size, "x");
        ASSERT_TRUE(std::ranges::equal(back.span(), raw)) << size << " bytes, level " << level;
        if (GetParam() != Coder::raw && spread == 1 && size >= 1000) {
          EXPECT_LT(stored.size(), 100u);
        }
      }
}

TEST_P(Coders, ExactlyOneStreamOfExactlyTheDeclaredSize) {
  const std::string text(60, 'a');
  const auto one = encode(GetParam(), base::as_bytes(text), 22);
  EXPECT_EQ(decode_error(one, 60), "");
  for (std::size_t size = 0; size < one.size(); ++size)
    EXPECT_NE(decode_error(std::span(one).first(size), 60), "") << size << " of " << one.size();
  auto two = one;
  two.insert(two.end(), one.begin(), one.end());
  EXPECT_NE(decode_error(two, 60), "");
  if (GetParam() != Coder::raw) {
    EXPECT_NE(decode_error(two, 120), "");
  }
  for (const std::uint64_t size : {0, 1, 59, 61, 1000}) EXPECT_NE(decode_error(one, size), "") << size;
  auto longer = one;
  longer.push_back(std::byte{0});
  EXPECT_NE(decode_error(longer, 60), "");
  if (GetParam() != Coder::raw) {
    EXPECT_NE(decode_error({}, 0), "");
  }
}

TEST_P(Coders, DamagedBytesAreErrorsOrOtherBytesNeverMore) {
  const base::Random random(4, "damage");
  std::vector<std::byte> raw(3000);
  for (std::size_t i = 0; i < raw.size(); ++i) raw[i] = static_cast<std::byte>(random.bits(i) % 20);
  const auto stored = encode(GetParam(), raw, 22);
  for (std::size_t i = 0; i < stored.size(); ++i) {
    auto bad = stored;
    bad[i] ^= static_cast<std::byte>(1u << (random.bits(i + 10'000) % 8));
    decode_error(bad, raw.size());  // the sanitizers watch that nothing is written beyond the end
  }
}

INSTANTIATE_TEST_SUITE_P(All, Coders, ::testing::ValuesIn(all_coders()),
                         [](const auto& instance) { return std::string(coder_name(instance.param)); });

/// Compressed size of rounded normal numbers, rows by turns of two widths, over their entropy as a whole.
double zstd_over_entropy(double even, double odd) {
  const base::Random random(7, "weights");
  std::vector<std::byte> raw;
  std::vector<double> count(256);
  for (int row = 0; row < 600; ++row)
    for (int i = 0; i < 1000; ++i) {
      const double x = (row % 2 ? odd : even) * random.normal(static_cast<std::uint64_t>(row * 1000 + i));
      raw.push_back(static_cast<std::byte>(std::lround(std::clamp(x, -31.0, 31.0))));
      count[std::to_integer<std::size_t>(raw.back())] += 1;
    }
  double bits = 0;
  for (const double n : count)
    if (n > 0) bits -= n * std::log2(n / static_cast<double>(raw.size()));
  return static_cast<double>(encode(Coder::zstd, raw, 22).size()) * 8 / bits;
}

/// The bounds lie between the two parses: either one alone fails one of them.
/// A section that does not shrink is stored raw.
TEST_P(Coders, WhatDoesNotShrinkStaysAsItIs) {
  const auto short_one = base::as_bytes("x");
  const auto kept = encode_smaller(GetParam(), short_one, 9);
  EXPECT_EQ(kept.coder, Coder::raw);
  EXPECT_TRUE(std::ranges::equal(kept.bytes, short_one));
  const std::vector<std::byte> zeros(4096);
  const auto coded = encode_smaller(GetParam(), zeros, 9);
  EXPECT_EQ(coded.coder, GetParam());
  EXPECT_EQ(coded.bytes.size() < zeros.size(), GetParam() != Coder::raw);
}

TEST(ZstdForNumbers, HighLevelsTakeTheSmallerOfTwoParses) {
  EXPECT_LT(zstd_over_entropy(9, 1), 0.933) << "the library's own: 0.938";
  EXPECT_LT(zstd_over_entropy(1.5, 1.5), 1.05) << "the one for weights: 1.09";
}

TEST(CoderLimits, LzmaMemoryIsBounded) {
  auto stored = encode(Coder::lzma, base::as_bytes(std::string(60, 'a')), 9);
  EXPECT_EQ(decode(Coder::lzma, stored, 60, "x").span().size(), 60u);
  const std::uint32_t dictionary = 1u << 31;
  std::memcpy(stored.data() + 1, &dictionary, sizeof dictionary);
  try {
    decode(Coder::lzma, stored, 60, "x");
    FAIL();
  } catch (const base::Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("wants a dictionary of more than"));
  }
}

TEST(CoderLimits, FilesOfNewerCodersNameTheFeatureInOlderReaders) {
  for (const auto& [options, feature] : {std::pair{WriteOptions{Coder::brotli, 11, false}, kFeatureBrotli},
                                         std::pair{WriteOptions{Coder::lzma, 9, false}, kFeatureLzma},
                                         std::pair{WriteOptions{Coder::zstd, 3, true}, kFeaturePlanes},
                                         std::pair{WriteOptions{Coder::zstd, 3, false}, std::uint64_t{0}}}) {
    const auto bytes = encode_artifact(testing::golden_artifact(), options);
    std::uint64_t features = 0;
    std::memcpy(&features, bytes.data() + 16, sizeof features);
    EXPECT_EQ(features, feature) << coder_name(options.coder);
  }
}

TEST(CoderComparison, CountsWhatTheFileReallyHas) {
  auto a = testing::golden_artifact();
  for (int i = 0; i < 4; ++i)
    a.tensors.push_back(
        testing::make_tensor(fmt::format("blocks.{}.mlp.proj.weight", i), TensorKind::int6, {96, 128}));
  const auto compared = compare_coders(a);
  ASSERT_EQ(compared.coders.size(), all_coders().size() + 2);
  for (const auto& r : compared.coders) {
    const auto bytes = encode_artifact(a, r.how);
    EXPECT_EQ(r.file_bytes, bytes.size()) << r.name();
    EXPECT_EQ(r.weights_bytes, size_ledger(bytes, "x").weights_bytes);
    EXPECT_NEAR(r.bits_per_weight * static_cast<double>(compared.weights),
                8.0 * static_cast<double>(r.weights_bytes), 1e-6);
  }
  // No coder beats the entropy of these independent values by what their 49,152 could hide.
  EXPECT_GT(compared.plain_bytes, compared.entropy_bytes);
  EXPECT_GT(compared.coders[1].weights_bytes * 1.01, static_cast<double>(compared.entropy_bytes));
  EXPECT_LT(static_cast<double>(compared.coders[1].weights_bytes),
            1.05 * static_cast<double>(compared.entropy_bytes) + 1000);
}

TEST(CoderComparison, CountsTheBitsOfEachKindAndOfItsScales) {
  struct Kind {
    TensorKind kind;
    std::uint64_t bits, scale_bytes;
  };
  for (const auto& [kind, bits, scale_bytes] : {Kind{TensorKind::int5, 5, 48},
                                                {TensorKind::int6, 6, 48},
                                                {TensorKind::int8, 8, 48},
                                                {TensorKind::f16, 16, 0},
                                                {TensorKind::f32, 32, 0}}) {
    auto a = testing::golden_artifact();
    a.tensors = {testing::make_tensor("blocks.0.mlp.proj.weight", kind, {24, 40})};
    std::ranges::fill(a.tensors[0].q, std::int8_t{1});  // of no entropy
    const auto compared = compare_coders(a);
    EXPECT_EQ(compared.weights, 960u);
    EXPECT_EQ(compared.plain_bytes, 120 * bits + scale_bytes) << bits;
    EXPECT_EQ(compared.entropy_bytes, is_integer(kind) ? scale_bytes : 120 * bits) << bits;
  }
}

}  // namespace
}  // namespace fairway::artifact
