#include "fairway/data/shard.h"

#include <gmock/gmock.h>

#include <cstring>
#include <numeric>

#include "support.h"

namespace fairway::data {
namespace {

using testing::DataFolder;
using ::testing::HasSubstr;
using testing::input_error;

// A shard made by hand after docs/spec/training.md, not by our writer.
std::string hand_made(const std::vector<std::uint16_t>& tokens) {
  std::string bytes(1024 + 2 * tokens.size(), '\0');
  const std::int32_t header[3] = {20240520, 1, static_cast<std::int32_t>(tokens.size())};
  std::memcpy(bytes.data(), header, sizeof header);
  if (!tokens.empty()) std::memcpy(bytes.data() + 1024, tokens.data(), 2 * tokens.size());
  return bytes;
}

TEST(Shard, WritesTheChallengesFormatToTheByte) {
  const DataFolder folder;
  const std::vector<std::uint16_t> tokens = {1, 500, 1023, 65535, 2};
  ShardWriter writer(folder / "a.bin");
  writer.write(std::span(tokens).first(2));
  EXPECT_FALSE(std::filesystem::exists(folder / "a.bin"));
  writer.write(std::span(tokens).subspan(2));
  writer.finish();
  EXPECT_EQ(base::read_text_file(folder / "a.bin"), hand_made(tokens));
  const ShardReader reader(folder / "a.bin");
  EXPECT_EQ(std::vector<std::uint16_t>(reader.tokens().begin(), reader.tokens().end()), tokens);
}

TEST(Shard, UnfinishedShardsLeaveNothing) {
  const DataFolder folder;
  { ShardWriter(folder / "a.bin").write(std::vector<std::uint16_t>(10, 3)); }
  EXPECT_TRUE(base::glob(folder.glob("*")).empty());
}

TEST(Shard, BadFilesAreNamed) {
  const DataFolder folder;
  const std::string good = hand_made({1, 2, 3});
  const auto error = [&](const std::string& bytes) {
    const auto path = folder.write("bad.bin", bytes);
    const std::string message = input_error([&] { ShardReader{path}; });
    EXPECT_THAT(message, HasSubstr(path.string()));
    return message;
  };
  EXPECT_THAT(error(""), HasSubstr("truncated"));
  EXPECT_THAT(error(good.substr(0, 1000)), HasSubstr("truncated shard (1000 bytes"));
  EXPECT_THAT(error(good.substr(0, 1029)), HasSubstr("truncated shard (1029 bytes, 3 tokens need 1030)"));
  EXPECT_THAT(error(good + "xx"), HasSubstr("1032 bytes but its 3 tokens need 1030"));
  std::string changed = good;
  changed[0] ^= 1;
  EXPECT_THAT(error(changed), HasSubstr("not a token shard (magic 20240521, expected 20240520)"));
  changed = good;
  changed[4] = 2;
  EXPECT_THAT(error(changed), HasSubstr("version 2"));
  changed = good;
  changed[11] = static_cast<char>(0x80);
  EXPECT_THAT(error(changed), HasSubstr("damaged shard header"));
  EXPECT_THAT(input_error([&] { ShardReader{folder / "none.bin"}; }), HasSubstr("none.bin"));
}

TEST(Shard, TokensOutsideTheVocabularyAreFound) {
  std::vector<std::uint16_t> tokens(200'000, 7);
  tokens[150'001] = 1024;
  EXPECT_THAT(input_error([&] { check_token_range(tokens, 1024, "s.bin"); }),
              HasSubstr("s.bin: token id 1024 at position 150001 is not below the vocabulary of 1024"));
  EXPECT_NO_THROW(check_token_range(tokens, 1025, "s.bin"));
  tokens[150'001] = 65535;
  EXPECT_NO_THROW(check_token_range(tokens, 65536, "s.bin"));
  EXPECT_THAT(input_error([&] { check_token_range(tokens, 65535, "s.bin"); }), HasSubstr("token id 65535"));
}

}  // namespace
}  // namespace fairway::data
