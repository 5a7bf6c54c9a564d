// What tensors have beside their grid: round trip, sizes, files that lie.
#include "corrections.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "container.h"
#include "fairway/artifact/coders.h"
#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "sections.h"
#include "synthetic.h"
#include "weights.h"

namespace fairway::artifact {
namespace {

using ::testing::HasSubstr;

Correction correction(std::int64_t rows, std::int64_t columns) {
  const base::Random random(9, "correction");
  Correction c;
  c.group_columns = 3;
  c.group_starts = {1, 5};
  c.rank = 2;
  c.b_group = 5;
  for (std::int64_t r = 0; r < rows; ++r)
    c.group_scales.push_back(tensor::to_f16(0.01f * static_cast<float>(r + 1)));
  for (std::int64_t i = 0; i < rows * c.rank; ++i)
    c.a.push_back(static_cast<std::int8_t>(random.below(static_cast<std::uint64_t>(i), 4) - 2));
  for (std::int64_t i = 0; i < c.rank * columns; ++i)
    c.b.push_back(static_cast<std::int8_t>(random.below(static_cast<std::uint64_t>(100 + i), 16) - 8));
  c.a_scale = tensor::to_f16(0.5f);
  for (std::int64_t i = 0; i < (c.rank * columns + 4) / 5; ++i)
    c.b_scales.push_back(tensor::to_f16(0.1f * static_cast<float>(i + 1)));
  return c;
}

/// With one tensor of each part, one of all, and tensors without between them.
Artifact corrected() {
  auto a = testing::golden_artifact();
  const auto with = [&](const char* name, TensorKind kind, std::vector<std::int64_t> shape) -> Correction& {
    a.tensors.push_back(testing::make_tensor(name, kind, std::move(shape)));
    auto& t = a.tensors.back();
    t.correction = correction(t.rows(), t.shape.back());
    return t.correction;
  };
  with("all", TensorKind::int8, {7, 16}).rotated = true;
  with("two.parts", TensorKind::int5, {5, 11});
  auto& groups = with("groups", TensorKind::int8, {4, 9});
  groups.rank = groups.b_group = 0;
  groups.a.clear(), groups.b.clear(), groups.b_scales.clear(), groups.a_scale = {};
  auto& rotated = with("rotated", TensorKind::int6, {3, 8});
  rotated = {};
  rotated.rotated = true;
  return a;
}

std::string error_of(std::span<const std::byte> bytes) {
  try {
    decode_artifact(bytes, "x");
  } catch (const base::Error& e) {
    EXPECT_EQ(e.kind(), base::ErrorKind::input) << e.what();
    return e.what();
  }
  return "";
}

TEST(Corrections, AreReadBackAsTheyWereWritten) {
  const auto a = corrected();
  for (const Coder coder : all_coders()) {
    const auto bytes = encode_artifact(a, {coder, 9});
    const auto read = decode_artifact(bytes, "x");
    ASSERT_EQ(read.tensors.size(), a.tensors.size());
    for (const auto& t : a.tensors) EXPECT_TRUE(testing::same_bits(*read.find(t.name), t)) << t.name;
    EXPECT_EQ(encode_artifact(read, {coder, 9}), bytes);
  }
  auto reversed = a;
  std::ranges::reverse(reversed.tensors);
  EXPECT_EQ(encode_artifact(reversed), encode_artifact(a));
}

TEST(Corrections, AFileWithoutAnyIsTheFileOfBefore) {
  const auto bytes = encode_artifact(testing::golden_artifact());
  const auto container = parse_container(bytes, "x", kArtifactKind, kArtifactSections, {});
  EXPECT_EQ(container.find(kCorrections), nullptr);
  const auto more = encode_artifact(corrected());
  ASSERT_NE(parse_container(more, "x", kArtifactKind, kArtifactSections, {}).find(kCorrections), nullptr);
  constexpr std::array<std::string_view, 4> known_before{kWeights, kTokenizer, kRecipe, kProvenance};
  try {
    parse_container(more, "x", kArtifactKind, known_before, {});
    ADD_FAILURE() << "an older reader would misread it";
  } catch (const base::Error& e) {
    EXPECT_THAT(e.what(), HasSubstr("needs section 'corrections', which this build does not know"));
  }
}

TEST(Corrections, TheLedgerCountsThemAsWeightsToTheByte) {
  const auto a = corrected();
  for (const Coder coder : all_coders()) {
    const auto bytes = encode_artifact(a, {coder, 9});
    const auto ledger = size_ledger(bytes, "x");
    std::uint64_t sum = 0, weights = 0, found = 0;
    for (const auto& p : ledger.parts) {
      sum += p.stored_bytes;
      if (p.name.starts_with("weights/")) weights += p.stored_bytes;
      if (p.name == "weights/corrections") found = p.stored_bytes;
    }
    EXPECT_EQ(sum, bytes.size());
    EXPECT_EQ(weights, ledger.weights_bytes);
    EXPECT_GT(found, 0u);
  }
  for (const auto& r : compare_coders(a).coders) {
    const auto bytes = encode_artifact(a, r.how);
    EXPECT_EQ(r.file_bytes, bytes.size()) << r.name();
    EXPECT_EQ(r.weights_bytes, size_ledger(bytes, "x").weights_bytes);
  }
}

TEST(Corrections, EachFlippedBitAndTruncationIsDetected) {
  auto bytes = encode_artifact(corrected(), {Coder::raw, 1});
  for (std::size_t i = 0; i < bytes.size(); ++i) {
    bytes[i] ^= std::byte{16};
    ASSERT_NE(error_of(bytes), "") << i;
    bytes[i] ^= std::byte{16};
  }
  for (std::size_t size = 0; size < bytes.size(); size += 7)
    ASSERT_NE(error_of(std::span(bytes).first(size)), "") << size;
}

TEST(Corrections, WhatDoesNotFitItsTensorIsRefusedOnWriting) {
  const auto refused = [](auto&& change) {
    auto t = testing::make_tensor("w", TensorKind::int8, {7, 16});
    t.correction = correction(7, 16);
    EXPECT_NO_THROW(check_correction(t));
    change(t);
    EXPECT_THROW(check_correction(t), base::Error);
    EXPECT_THROW(encode_corrections(std::span(&t, 1)), base::Error);
  };
  refused([](StoredTensor& t) { t.kind = TensorKind::f16; });
  refused([](StoredTensor& t) { t.correction.a.pop_back(); });
  refused([](StoredTensor& t) { t.correction.b.push_back(0); });
  refused([](StoredTensor& t) { t.correction.b_scales.pop_back(); });
  refused([](StoredTensor& t) { t.correction.group_scales.pop_back(); });
  refused([](StoredTensor& t) { t.correction.a[3] = 2; });
  refused([](StoredTensor& t) { t.correction.b[3] = -9; });
  refused([](StoredTensor& t) { t.correction.group_starts = {1, 3}; });
  refused([](StoredTensor& t) { t.correction.group_starts = {1, 14}; });
  refused([](StoredTensor& t) { t.correction.rank = 8; });
  refused([](StoredTensor& t) { t.correction.b_group = 0; });
  refused([](StoredTensor& t) { t.correction.a_scale.bits = 0x7c00; });
  refused([](StoredTensor& t) {
    t.shape = {8, 14};
    t.correction.rotated = true;
  });
}

/// The section's bytes for a tensor "t" of [2, 4], and what reading says of them.
std::string read_error(const std::function<void(base::ByteWriter&)>& write,
                       TensorKind kind = TensorKind::int8, std::vector<std::int64_t> shape = {2, 4}) {
  base::ByteWriter out;
  write(out);
  std::vector<StoredTensor> tensors{testing::make_tensor("t", kind, std::move(shape))};
  try {
    decode_corrections(out.bytes(), tensors, "x", {});
  } catch (const base::Error& e) {
    EXPECT_EQ(e.kind(), base::ErrorKind::input) << e.what();
    return e.what();
  }
  return "";
}

void entry(base::ByteWriter& out, std::string_view name, std::uint8_t flags) {
  out.write(static_cast<std::uint16_t>(name.size()));
  out.write_bytes(base::as_bytes(name));
  out.write(flags);
}

TEST(Corrections, LyingSectionsAreRefused) {
  const auto one = [](std::string_view name, std::uint8_t flags, std::vector<std::uint32_t> numbers,
                      std::size_t payload = 0, std::byte fill = std::byte{0}) {
    return [=](base::ByteWriter& out) {
      out.write(std::uint32_t{1});
      entry(out, name, flags);
      for (const auto n : numbers) out.write(n);
      out.write_bytes(std::vector<std::byte>(payload, fill));
    };
  };
  // Rank 1 of [2, 4]: 2 + 4 codes, 1 + 1 halves with groups of 4.
  EXPECT_EQ(read_error(one("t", 4, {1, 4}, 6 + 4)), "");
  EXPECT_THAT(read_error(one("t", 4, {1, 4}, 6 + 3)), HasSubstr("9 bytes of values, 10 declared"));
  EXPECT_THAT(read_error(one("t", 4, {1, 4}, 10, std::byte{2})),
              HasSubstr("outside of [-2, 1] times [-8, 7]"));
  EXPECT_THAT(read_error(one("t", 4, {1, 4}, 10, std::byte{0xff})), HasSubstr("not finite"));
  EXPECT_THAT(read_error(one("t", 4, {3, 4}, 100)), HasSubstr("too high a rank"));
  EXPECT_THAT(read_error(one("t", 4, {0, 4}, 100)), HasSubstr("rank 0"));
  EXPECT_THAT(read_error(one("t", 4, {1, 0}, 100)), HasSubstr("without groups"));
  EXPECT_THAT(read_error(one("u", 4, {1, 4}, 10)), HasSubstr("'u' is no tensor of the file"));
  EXPECT_THAT(read_error(one("t", 0, {})), HasSubstr("has flags 0"));
  EXPECT_THAT(read_error(one("t", 8, {})), HasSubstr("has flags 8"));
  EXPECT_THAT(read_error(one("t", 1, {}), TensorKind::f16), HasSubstr("has no integers"));
  EXPECT_THAT(read_error(one("t", 1, {}), TensorKind::int8, {2, 6}), HasSubstr("no power of two"));
  EXPECT_EQ(read_error(one("t", 2, {2, 2, 0, 2}, 4)), "");
  EXPECT_THAT(read_error(one("t", 2, {2, 2, 0, 1}, 4)), HasSubstr("overlap or do not fit"));
  EXPECT_THAT(read_error(one("t", 2, {2, 3, 0, 1, 2}, 4)), HasSubstr("has 3 groups of 2 columns"));
  EXPECT_THAT(read_error(one("t", 2, {0, 1, 0}, 4)), HasSubstr("has 1 groups of 0 columns"));
  EXPECT_THAT(read_error(one("t", 2, {2, 1, 0xffffffff}, 4)), HasSubstr("overlap or do not fit"));
  EXPECT_THAT(read_error([](auto& out) { out.write(std::uint32_t{0}); }), HasSubstr("0 corrections"));
  EXPECT_THAT(read_error([](auto& out) { out.write(std::uint32_t{2}); }), HasSubstr("2 corrections of 1"));
  EXPECT_THAT(read_error([](auto& out) { out.write(std::uint16_t{2}); }), HasSubstr("truncated"));
}

}  // namespace
}  // namespace fairway::artifact
