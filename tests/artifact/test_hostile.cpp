// Files with good checksums and bad intentions.

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>

#include "container.h"
#include "fairway/artifact/artifact.h"
#include "fairway/base/bytes.h"
#include "fairway/base/error.h"
#include "fairway/base/hash.h"
#include "sections.h"
#include "synthetic.h"
#include "weights.h"

namespace fairway::artifact {
namespace {

using ::testing::HasSubstr;

std::string error_of(std::span<const std::byte> bytes, const ReadLimits& limits = {}) {
  try {
    decode_artifact(bytes, "x", limits);
  } catch (const base::Error& e) {
    EXPECT_EQ(e.kind(), base::ErrorKind::input) << e.what();
    return e.what();
  }
  return "";
}

template <class T>
void put(std::vector<std::byte>& bytes, std::size_t at, T value) {
  std::memcpy(bytes.data() + at, &value, sizeof value);
}

/// Makes the header's checksum fit again (when the table still lies inside of the file).
void reseal(std::vector<std::byte>& bytes) {
  std::uint32_t table = 0;
  std::memcpy(&table, bytes.data() + 44, sizeof table);
  const std::size_t end = kHeaderBytes + table;
  if (end + 8 <= bytes.size()) put(bytes, end, base::hash64(std::span(bytes).first(end)));
}

std::vector<std::byte> plain_file() { return encode_artifact(testing::golden_artifact(), {Coder::raw, 1}); }

/// An artifact whose weights section decodes to `weights`.
std::vector<std::byte> with_weights(std::span<const std::byte> weights) {
  ContainerWriter writer(kArtifactKind);
  writer.add(kWeights, true, weights, {Coder::raw, 1});
  writer.add(kRecipe, true, {}, {});
  writer.add(kProvenance, false, base::as_bytes(R"({"build":"","device":"","isa":"","seed":1,"data":{}})"),
             {});
  return writer.to_bytes();
}

TEST(Hostile, HeaderFields) {
  const auto changed = [](std::size_t at, auto value) {
    auto bytes = plain_file();
    put(bytes, at, value);
    reseal(bytes);
    return error_of(bytes);
  };
  EXPECT_THAT(changed(8, std::uint32_t{2}),
              HasSubstr("format version 2, this build reads version 1: use a newer"));
  EXPECT_THAT(changed(12, std::uint32_t{0}), HasSubstr("alignment 0"));
  EXPECT_THAT(changed(16, std::uint64_t{1} << 5), HasSubstr("needs format feature 5"));
  EXPECT_EQ(changed(24, ~std::uint64_t{0}), "");  // optional features may be ignored
  EXPECT_THAT(changed(32, std::uint64_t{1} << 60), HasSubstr("its header says"));
  EXPECT_THAT(changed(40, std::uint32_t{0xffffffff}), HasSubstr("sections, at most"));
  EXPECT_THAT(changed(40, std::uint32_t{60'000}), HasSubstr("for 60000 sections"));
  EXPECT_THAT(changed(40, std::uint32_t{3}), HasSubstr("behind the section table"));
  EXPECT_THAT(changed(44, std::uint32_t{0xfffffff0}), HasSubstr("a section table of"));
  EXPECT_THAT(changed(kHeaderBytes, std::uint8_t{3}), HasSubstr("flags 3"));
  EXPECT_THAT(changed(kHeaderBytes + 1, std::uint8_t{2}),
              HasSubstr("uses coder 'brotli', which the header does not declare"));
  EXPECT_THAT(changed(kHeaderBytes + 1, std::uint8_t{3}), HasSubstr("'lzma'"));
  EXPECT_THAT(changed(kHeaderBytes + 1, std::uint8_t{77}), HasSubstr("coder 77 is not in this build"));
  EXPECT_THAT(changed(kHeaderBytes + 2, std::uint16_t{0xffff}), HasSubstr("truncated"));
  const std::size_t first = kHeaderBytes + 4 + std::strlen(kWeights);  // behind the name
  EXPECT_THAT(changed(first, std::uint64_t{1}), HasSubstr("does not fit"));
  EXPECT_THAT(changed(first, ~std::uint64_t{0}), HasSubstr("does not fit"));
  EXPECT_THAT(changed(first + 8, ~std::uint64_t{0} - 100), HasSubstr("does not fit"));
  EXPECT_THAT(changed(first + 16, std::uint64_t{1} << 62), HasSubstr("at most"));
}

TEST(Hostile, Sections) {
  const auto text = base::as_bytes("something");
  const auto build = [&](auto&& more) {
    ContainerWriter writer(kArtifactKind);
    writer.add(kWeights, true, encode_weights({}, false), {});
    writer.add(kRecipe, true, {}, {});
    writer.add(kProvenance, false, base::as_bytes(R"({"build":"","device":"","isa":"","seed":1,"data":{}})"),
               {});
    more(writer);
    return writer.to_bytes();
  };
  EXPECT_EQ(error_of(build([](auto&) {})), "");
  EXPECT_EQ(error_of(build([&](auto& w) { w.add("future", false, text, {}); })), "");
  EXPECT_THAT(error_of(build([&](auto& w) { w.add("future", true, text, {}); })),
              HasSubstr("needs section 'future', which this build does not know"));
  EXPECT_THAT(error_of(build([&](auto& w) { w.add(kRecipe, true, text, {}); })),
              HasSubstr("two sections 'recipe'"));
  EXPECT_THAT(error_of(build([&](auto& w) { w.add(kTokenizer, true, text, {}); })),
              HasSubstr("section 'tokenizer'"));
  EXPECT_THAT(error_of(build([&](auto& w) { w.add("a b", false, text, {}); })), HasSubstr("not printable"));
  ContainerWriter empty(kArtifactKind);
  EXPECT_THAT(error_of(empty.to_bytes()), HasSubstr("no section 'weights'"));
}

TEST(Hostile, WeightsDirectory) {
  struct Entry {
    std::uint8_t kind = 0;
    std::vector<std::int64_t> shape;
    std::string name = "t";
    int rank = -1;
  };
  const auto error = [](const std::vector<Entry>& entries, std::size_t payload, std::byte fill = std::byte{0},
                        std::uint32_t count = 0) {
    base::ByteWriter out;
    out.write(count ? count : static_cast<std::uint32_t>(entries.size()));
    for (const auto& e : entries) {
      out.write(e.kind);
      out.write(static_cast<std::uint8_t>(e.rank < 0 ? static_cast<int>(e.shape.size()) : e.rank));
      out.write(static_cast<std::uint16_t>(e.name.size()));
      out.write_bytes(base::as_bytes(e.name));
      for (auto extent : e.shape) out.write(extent);
    }
    out.write_bytes(std::vector<std::byte>(payload, fill));
    return error_of(with_weights(out.bytes()));
  };
  EXPECT_EQ(error({{0, {2, 3}}}, 6 + 4), "");
  EXPECT_THAT(error({{0, {2, 3}}}, 6 + 3), HasSubstr("9 bytes of values, 10 declared"));
  EXPECT_THAT(error({{0, {2, 3}}}, 6 + 5), HasSubstr("11 bytes of values, 10 declared"));
  EXPECT_THAT(error({{0, {2, 3}}}, 10, std::byte{40}), HasSubstr("holds 40, outside of int6's [-32, 31]"));
  EXPECT_THAT(error({{2, {2, 3}}}, 10, std::byte{16}), HasSubstr("outside of int5's [-16, 15]"));
  EXPECT_THAT(error({{1, {2, 3}}}, 10, std::byte{0xff}), HasSubstr("not finite"));
  EXPECT_THAT(error({{9, {2}}}, 4), HasSubstr("unknown tensor kind 9"));
  EXPECT_THAT(error({{4, {1, 1, 1, 1, 1, 1, 1}}}, 4), HasSubstr("rank 7"));
  EXPECT_THAT(error({{4, {}, "t", 255}}, 4), HasSubstr("rank 255"));
  EXPECT_THAT(error({{4, {0}}}, 0), HasSubstr("extent of 0"));
  EXPECT_THAT(error({{4, {-1}}}, 4), HasSubstr("extent of -1"));
  EXPECT_THAT(error({{4, {INT64_MAX, INT64_MAX}}}, 4), HasSubstr("more than"));
  EXPECT_THAT(error({{4, {1ll << 31}}}, 4), HasSubstr("bytes of values"));  // nothing is allocated for it
  EXPECT_THAT(error({{4, {1}}, {4, {1}}}, 8), HasSubstr("two tensors 't'"));
  EXPECT_THAT(error({{4, {1}, "a"}, {3, {1}, "b"}}, 6), HasSubstr("out of order"));
  EXPECT_THAT(error({{4, {1}, ""}}, 4), HasSubstr("name"));
  EXPECT_THAT(error({{4, {1}, std::string(300, 'n')}}, 4), HasSubstr("name"));
  EXPECT_THAT(error({{4, {1}}}, 4, std::byte{0}, 0x7fffffff), HasSubstr("tensors, at most"));
  EXPECT_THAT(error({{4, {1}}}, 3, std::byte{0}, 60'000), HasSubstr("truncated"));
}

TEST(Hostile, DecompressionIsBounded) {
  const std::vector<std::byte> zeros(50'000'000);
  const auto bomb = with_weights(zeros);  // raw; now the same compressed
  ContainerWriter writer(kArtifactKind);
  writer.add(kWeights, true, zeros, {Coder::zstd, 1});
  auto bytes = writer.to_bytes();
  EXPECT_LT(bytes.size(), 10'000u);
  ReadLimits limits;
  limits.max_decoded = 1'000'000;
  EXPECT_THAT(error_of(bytes, limits), HasSubstr("has 50000000 bytes, at most 1000000"));
  // A declared size that no frame of these bytes can reach costs no memory either.
  const std::size_t raw_field = kHeaderBytes + 4 + std::strlen(kWeights) + 16;
  put(bytes, raw_field, std::uint64_t{1} << 32);
  reseal(bytes);
  EXPECT_THAT(error_of(bytes), HasSubstr("cannot come out of"));
  put(bytes, raw_field, std::uint64_t{49'999'999});
  reseal(bytes);
  EXPECT_THAT(error_of(bytes), HasSubstr("does not declare"));
}

}  // namespace
}  // namespace fairway::artifact
