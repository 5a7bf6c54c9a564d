#include "fairway/artifact/safetensors.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <limits>

#include "fairway/base/bytes.h"
#include "fairway/base/error.h"

namespace fairway::artifact {
namespace {

using tensor::DType;
using ::testing::HasSubstr;

std::vector<std::byte> file_of(std::string_view header, std::size_t data) {
  base::ByteWriter out;
  out.write(static_cast<std::uint64_t>(header.size()));
  out.write_bytes(base::as_bytes(header));
  out.write_bytes(std::vector<std::byte>(data));
  return std::move(out).take();
}

std::string error_of(std::span<const std::byte> bytes, const ReadLimits& limits = {}) {
  try {
    SafeTensors::parse(bytes, "x.safetensors", limits);
  } catch (const base::Error& e) {
    EXPECT_EQ(e.kind(), base::ErrorKind::input) << e.what();
    EXPECT_THAT(e.what(), HasSubstr("x.safetensors"));
    return e.what();
  }
  return "";
}
std::string error_of(std::string_view header, std::size_t data) { return error_of(file_of(header, data)); }

TEST(SafeTensors, RoundTripIsExactAndAligned) {
  const auto path =
      std::filesystem::temp_directory_path() / fmt::format("fairway_{}.safetensors", ::getpid());
  const std::vector<float> f32{0.1f, -0.0f, std::numeric_limits<float>::denorm_min(),
                               std::bit_cast<float>(0x7fc00123u)};
  const std::vector<double> f64{1e300};
  const std::vector<tensor::f16> f16{tensor::to_f16(1.5f), tensor::to_f16(-2.0f), tensor::to_f16(0.1f)};
  const std::vector<tensor::bf16> bf16{tensor::to_bf16(3.0f)};
  const std::vector<std::int8_t> i8{-128, 127, 5};
  const std::vector<std::uint8_t> u8{255};
  const std::vector<std::int32_t> i32{-7};
  const std::vector<std::int64_t> i64{1ll << 40};
  const std::vector<SafeTensor> tensors{{"z", DType::i8, {3}, std::as_bytes(std::span(i8))},
                                        {"b.weight", DType::f32, {2, 2}, std::as_bytes(std::span(f32))},
                                        {"half", DType::f16, {3, 1}, std::as_bytes(std::span(f16))},
                                        {"double", DType::f64, {}, std::as_bytes(std::span(f64))},
                                        {"a", DType::u8, {1}, std::as_bytes(std::span(u8))},
                                        {"brain", DType::bf16, {1}, std::as_bytes(std::span(bf16))},
                                        {"int", DType::i32, {1}, std::as_bytes(std::span(i32))},
                                        {"long", DType::i64, {1}, std::as_bytes(std::span(i64))},
                                        {"none", DType::f32, {0, 4}, {}}};
  write_safetensors(path, tensors, {{"format", "pt"}, {"config", R"({"layers": 2})"}});
  const auto file = SafeTensors::open(path);
  ASSERT_EQ(file.tensors().size(), tensors.size());
  EXPECT_TRUE(std::is_sorted(file.tensors().begin(), file.tensors().end(),
                             [](auto& a, auto& b) { return a.name < b.name; }));
  for (const auto& t : tensors) {
    const auto& r = file.at(t.name);
    EXPECT_EQ(r.dtype, t.dtype);
    EXPECT_EQ(r.shape, t.shape);
    EXPECT_TRUE(std::ranges::equal(r.data, t.data)) << t.name;
    EXPECT_EQ(reinterpret_cast<std::uintptr_t>(r.data.data()) % tensor::size_of(t.dtype), 0u) << t.name;
  }
  EXPECT_EQ(file.metadata().at("config"), R"({"layers": 2})");
  EXPECT_EQ(file.values<std::int64_t>("long"), i64);
  EXPECT_EQ(file.floats("half"), (std::vector<float>{1.5f, -2.0f, tensor::to_float(tensor::to_f16(0.1f))}));
  EXPECT_EQ(file.floats("z"), (std::vector<float>{-128, 127, 5}));
  EXPECT_EQ(file.floats("brain"), (std::vector<float>{3.0f}));
  EXPECT_THROW(file.values<float>("z"), base::Error);
  EXPECT_THROW(file.at("missing"), base::Error);
  const auto first = base::read_file(path);
  const std::vector<SafeTensor> reversed(tensors.rbegin(), tensors.rend());
  write_safetensors(path, reversed, {{"config", R"({"layers": 2})"}, {"format", "pt"}});
  EXPECT_EQ(base::read_file(path), first);
  std::filesystem::remove(path);
}

TEST(SafeTensors, DataStartsAtAMultipleOf64WhateverTheHeadersLength) {
  const auto path =
      std::filesystem::temp_directory_path() / fmt::format("fairway_{}_aligned.safetensors", ::getpid());
  const std::vector<float> values{1.5f, -2.0f};
  const std::vector<SafeTensor> tensors{{"t", DType::f32, {2}, std::as_bytes(std::span(values))}};
  for (std::size_t length = 0; length < 64; length += 7) {
    write_safetensors(path, tensors, {{"k", std::string(length, 'x')}});
    EXPECT_EQ((std::filesystem::file_size(path) - sizeof(float) * values.size()) % 64, 0u) << length;
  }
  std::filesystem::remove(path);
}

TEST(SafeTensors, ReadsAFileOfTheOriginalLibrary) {
  // Written by the Python package; it pads its header to 8 bytes only.
  const auto file = SafeTensors::open(std::filesystem::path(FAIRWAY_GOLDEN_DIR) / "quant_pr398.safetensors");
  EXPECT_THAT(file.metadata().at("kind"), HasSubstr("int6"));
  std::size_t integers = 0;
  for (const auto& t : file.tensors()) {
    EXPECT_EQ(file.floats(t.name).size(), static_cast<std::size_t>(t.elements()));
    integers += t.dtype == DType::i8 ? 1 : 0;
  }
  EXPECT_EQ(integers, 4u);
}

TEST(SafeTensors, RefusesBadHeaders) {
  constexpr const char* kGood = R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  EXPECT_EQ(error_of(kGood, 8), "");
  EXPECT_THAT(error_of(kGood, 7), HasSubstr("bytes [0, 8) of 7"));
  EXPECT_THAT(error_of(kGood, 9), HasSubstr("9 bytes of data, the tensors take 8"));
  const auto entry = [](const char* dtype, const char* shape, const char* offsets) {
    return fmt::format(R"({{"a":{{"dtype":{},"shape":{},"data_offsets":{}}}}})", dtype, shape, offsets);
  };
  EXPECT_THAT(error_of(entry(R"("F8_E4M3")", "[8]", "[0,8]"), 8),
              HasSubstr("dtype 'F8_E4M3' is not supported"));
  EXPECT_THAT(error_of(entry("3", "[8]", "[0,8]"), 8), HasSubstr("dtype is not a text"));
  EXPECT_THAT(error_of(entry(R"("U8")", "[-8]", "[0,8]"), 8), HasSubstr("non-negative"));
  EXPECT_THAT(error_of(entry(R"("U8")", "[8.0]", "[0,8]"), 8), HasSubstr("non-negative"));
  EXPECT_THAT(error_of(entry(R"("U8")", "[9]", "[0,8]"), 8), HasSubstr("8 bytes for 9 elements"));
  EXPECT_THAT(error_of(entry(R"("F32")", "[4611686018427387904,4]", "[0,0]"), 0), HasSubstr("more than"));
  EXPECT_THAT(error_of(entry(R"("U8")", "[1,1,1,1,1,1,1]", "[0,1]"), 1), HasSubstr("rank 7"));
  EXPECT_THAT(error_of(entry(R"("U8")", "[8]", "[8,0]"), 8), HasSubstr("bytes [8, 0)"));
  EXPECT_THAT(error_of(entry(R"("U8")", "[8]", "[0,8,8]"), 8), HasSubstr("two data_offsets"));
  EXPECT_THAT(error_of(R"({"a":{"dtype":"U8","shape":[1],"data_offsets":[0,1],"x":0}})", 1),
              HasSubstr("exactly"));
  EXPECT_THAT(error_of(R"({"a":3})", 0), HasSubstr("exactly"));
  EXPECT_THAT(error_of(R"([])", 0), HasSubstr("not a JSON object"));
  EXPECT_THAT(error_of(R"({"a":)", 0), HasSubstr("bad JSON"));
  EXPECT_THAT(error_of(R"({"__metadata__":{"k":1}})", 0), HasSubstr("metadata 'k' is not a text"));
}

TEST(SafeTensors, RefusesOverlapsHolesAndRepeats) {
  const auto two = [](int b0, int b1) {
    return fmt::format(
        R"({{"a":{{"dtype":"U8","shape":[4],"data_offsets":[0,4]}},"b":{{"dtype":"U8","shape":[{}],"data_offsets":[{},{}]}}}})",
        b1 - b0, b0, b1);
  };
  EXPECT_EQ(error_of(two(4, 8), 8), "");
  EXPECT_EQ(error_of(two(4, 4), 4), "");  // an empty tensor
  EXPECT_THAT(error_of(two(3, 8), 8), HasSubstr("overlap"));
  EXPECT_THAT(error_of(two(0, 4), 4), HasSubstr("overlap"));
  EXPECT_THAT(error_of(two(5, 8), 8), HasSubstr("hole"));
  EXPECT_THAT(
      error_of(
          R"({"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},"a":{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})",
          0),
      HasSubstr("stands twice"));
}

TEST(SafeTensors, BoundsHeaderAndDepth) {
  EXPECT_THAT(error_of(base::as_bytes("1234567")), HasSubstr("truncated"));
  EXPECT_THAT(error_of(base::as_bytes("This is a text and no tensors at all.")),
              HasSubstr("not a safetensors file"));
  const std::uint64_t length = 1000;
  EXPECT_THAT(error_of(std::as_bytes(std::span(&length, 1))), HasSubstr("truncated"));
  EXPECT_THAT(error_of(std::string(100'000, '['), 0), HasSubstr("nested deeper"));
  std::string many = "{";
  for (int i = 0; i < 20; ++i)
    many += fmt::format(R"({}"t{}":{{"dtype":"U8","shape":[0],"data_offsets":[0,0]}})", i ? "," : "", i);
  ReadLimits limits;
  limits.max_tensors = 10;
  EXPECT_THAT(error_of(file_of(many + "}", 0), limits), HasSubstr("20 tensors, at most 10"));
}

TEST(SafeTensors, TruncationsAreDetected) {
  const auto bytes = file_of(R"({"a":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})", 8);
  for (std::size_t size = 0; size < bytes.size(); ++size)
    ASSERT_NE(error_of(std::span(bytes).first(size)), "") << size;
}

}  // namespace
}  // namespace fairway::artifact
