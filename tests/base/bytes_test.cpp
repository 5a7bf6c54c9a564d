#include "fairway/base/bytes.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

namespace fairway::base {
namespace {

using testing::HasSubstr;

TEST(Bytes, RoundTrip) {
  ByteWriter writer;
  writer.write<std::uint8_t>(7);
  writer.write<std::uint64_t>(0x0102030405060708u);
  writer.write(-1.5f);
  writer.write_string("größe");
  writer.write_bytes(as_bytes("xyz"));
  const auto bytes = std::move(writer).take();
  ByteReader reader(bytes, "file");
  EXPECT_EQ(reader.read<std::uint8_t>(), 7);
  EXPECT_EQ(bytes[1], std::byte{8});  // little-endian
  EXPECT_EQ(reader.read<std::uint64_t>(), 0x0102030405060708u);
  EXPECT_EQ(reader.read<float>(), -1.5f);
  EXPECT_EQ(reader.read_string(100), "größe");
  EXPECT_EQ(reader.left(), 3u);
  EXPECT_EQ(reader.position(), bytes.size() - 3);
  EXPECT_EQ(reader.take(3)[2], std::byte{'z'});
  EXPECT_EQ(reader.left(), 0u);
}

TEST(Bytes, TruncationIsAnInputErrorThatSaysWhere) {
  const std::vector<std::byte> bytes(5);
  ByteReader reader(bytes, "weights.fairway");
  reader.read<std::uint16_t>();
  try {
    reader.read<std::uint64_t>();
    FAIL();
  } catch (const Error& error) {
    EXPECT_EQ(error.kind(), ErrorKind::input);
    EXPECT_THAT(error.what(), HasSubstr("weights.fairway: truncated at byte 2 (8 more expected, 3 left)"));
  }
  EXPECT_EQ(reader.left(), 3u);  // nothing was consumed
}

TEST(Bytes, HugeLengthsNeverWrap) {
  ByteWriter writer;
  writer.write<std::uint32_t>(0xffffffffu);
  writer.write<std::uint8_t>(0);
  ByteReader reader(writer.bytes(), "x");
  EXPECT_THROW(reader.take(UINT64_MAX), Error);
  EXPECT_THROW(ByteReader(writer.bytes(), "x").read_string(1000), Error);         // over the cap
  EXPECT_THROW(ByteReader(writer.bytes(), "x").read_string(0xffffffffu), Error);  // longer than what is there
}

}  // namespace
}  // namespace fairway::base
