// Byte counts beside token shards (docs/spec/caseops_tokenizer.md sections 6.1 and 8).
#include "fairway/data/side_car.h"

#include <gmock/gmock.h>

#include <numeric>

#include "fairway/base/hash.h"
#include "fairway/data/build.h"
#include "fairway/data/loader.h"
#include "support.h"

namespace fairway::data {
namespace {

using testing::DataFolder;
using ::testing::ElementsAreArray;
using ::testing::HasSubstr;
using testing::input_error;

const text::Tokenizer& caseops() {
  static const auto tokenizer = text::Tokenizer::load(
      testing::data_path("tokenizers/fineweb_8192_bpe_lossless_caps_caseops_v1_reserved.model"));
  return tokenizer;
}

Manifest build(const std::filesystem::path& file, const BuildOptions& options,
               const text::Tokenizer& tokenizer, int threads = 2) {
  base::ThreadPool pool(threads);
  base::SilentProgress silent;
  return build_shards({file}, tokenizer, options, pool, silent);
}

BuildOptions paragraphs(const std::filesystem::path& out) {
  BuildOptions options;
  options.out = out;
  options.shard_tokens = 3'000;
  options.hold_out.every = 4;
  options.reader.split_on = SplitOn::blank_line;
  options.reader.min_document_bytes = 500;
  return options;
}

std::vector<std::string> names(const std::vector<std::filesystem::path>& files) {
  std::vector<std::string> result;
  for (const auto& file : files) result.push_back(file.filename().string());
  return result;
}

TEST(SideCar, StandsBesideItsShardAndIsKnownByTheEndOfItsName) {
  EXPECT_EQ(side_car_of("a/fineweb_val_000012.bin"), "a/fineweb_val_bytes_000012.bin");
  EXPECT_EQ(side_car_of("tokens.bin"), std::nullopt);
  EXPECT_EQ(side_car_of("x_val_bytes_000000.bin"), std::nullopt);
  EXPECT_TRUE(is_side_car("a/fineweb_val_bytes_000012.bin"));
  for (const char* shard : {"my_bytes_val_000000.bin", "a_bytes_/fineweb_val_000000.bin", "x_bytes_.bin",
                            "x_bytes_00a.bin", "x_bytes_000000.bin.txt", "x_megabytes000000.bin"})
    EXPECT_FALSE(is_side_car(shard)) << shard;
}

TEST(SideCar, HoldsTheBytesOfEachTokenOfTheValidationShards) {
  const DataFolder folder;
  const auto file = folder.write("demo.txt", testing::demo_text().substr(0, 60'000));
  const auto options = paragraphs(folder / "shards");
  const auto manifest = build(file, options, caseops());
  std::vector<std::uint16_t> expected;
  std::uint64_t number = 0;
  for (const auto& document : read_documents({file}, options.reader)) {
    if (++number % 4 != 0) continue;
    std::vector<std::uint16_t> ids;
    caseops().encode(document.text, ids);
    expected.push_back(0);
    for (const auto count : caseops().surface_bytes(document.text, ids)) expected.push_back(count);
  }
  ASSERT_GT(manifest.val_shards.size(), 1u) << "documents cross shards";
  std::vector<std::uint16_t> counts;
  for (const auto& shard : manifest.val_shards) {
    const auto own = read_side_car(ShardReader(options.out / shard.file));
    ASSERT_TRUE(own.has_value());
    EXPECT_EQ(std::accumulate(own->begin(), own->end(), std::uint64_t{0}), shard.side_car_bytes);
    EXPECT_EQ(shard.side_car_hash, base::hex64(base::hash64(base::read_file(options.out / shard.side_car))));
    counts.insert(counts.end(), own->begin(), own->end());
  }
  EXPECT_THAT(counts, ElementsAreArray(expected));
  EXPECT_EQ(manifest_json(*find_manifest(options.out / manifest.val_shards[0].file)),
            manifest_json(manifest));
  for (const auto& shard : manifest.train_shards) EXPECT_EQ(shard.side_car, "") << "nobody scores these";
}

TEST(SideCar, IsWrittenForCaseOpsTokenizersOrWhenAskedFor) {
  const DataFolder folder;
  const auto file = folder.write("demo.txt", testing::demo_text().substr(0, 20'000));
  const auto has = [&](const char* out, const text::Tokenizer& tokenizer, std::optional<bool> asked) {
    auto options = paragraphs(folder / out);
    options.side_car = asked;
    return !build(file, options, tokenizer).val_shards[0].side_car.empty();
  };
  EXPECT_TRUE(has("a", caseops(), {}));
  EXPECT_FALSE(has("b", caseops(), false));
  EXPECT_FALSE(has("c", testing::sp1024(), {}));
  EXPECT_TRUE(has("d", testing::sp1024(), true));
}

TEST(SideCar, ThreadsDoNotChangeTheBytes) {
  const DataFolder folder;
  const auto file = folder.write("demo.txt", testing::demo_text().substr(0, 40'000));
  const auto one = build(file, paragraphs(folder / "one"), caseops(), 1);
  EXPECT_EQ(manifest_json(one), manifest_json(build(file, paragraphs(folder / "four"), caseops(), 4)));
}

TEST(SideCar, IsNoTokenShard) {
  const DataFolder folder;
  const auto file = folder.write("demo.txt", testing::demo_text().substr(0, 40'000));
  const auto manifest = build(file, paragraphs(folder / "shards"), caseops());
  std::vector<std::string> val;
  for (const auto& shard : manifest.val_shards) val.push_back(shard.file);
  EXPECT_EQ(names(find_shards(folder.glob("shards/*_val_*.bin"))), val);
  EXPECT_EQ(read_shards(folder.glob("shards/*_val_*.bin"), 8192, &caseops()).size(), manifest.val.tokens);
  EXPECT_EQ(TokenStream::open(folder.glob("shards/*.bin"), 8192, &caseops()).size(),
            manifest.val.tokens + manifest.train.tokens);
  EXPECT_THAT(input_error([&] { find_shards(folder.glob("shards/*_bytes_*.bin")); }),
              HasSubstr("names byte counts (_bytes_NUMBER.bin) only"));
  EXPECT_THAT(input_error([&] { find_shards(folder.glob("shards/other_*.bin")); }),
              HasSubstr("no shards match"));
}

TEST(SideCar, AnotherLengthThanItsShardsIsAnError) {
  const DataFolder folder;
  const auto write = [&](const char* name, std::size_t count) {
    ShardWriter writer(folder / name);
    writer.write(std::vector<std::uint16_t>(count, 1));
    writer.finish();
  };
  write("x_val_000000.bin", 5);
  EXPECT_EQ(read_side_car(ShardReader(folder / "x_val_000000.bin")), std::nullopt);
  write("x_val_bytes_000000.bin", 5);
  EXPECT_EQ(read_side_car(ShardReader(folder / "x_val_000000.bin"))->size(), 5u);
  write("x_val_bytes_000000.bin", 4);
  EXPECT_THAT(input_error([&] { read_side_car(ShardReader(folder / "x_val_000000.bin")); }),
              HasSubstr("4 byte counts for the 5 tokens of x_val_000000.bin"));
  base::write_file(folder / "x_val_bytes_000000.bin", std::string("short"));
  EXPECT_THAT(input_error([&] { read_side_car(ShardReader(folder / "x_val_000000.bin")); }),
              HasSubstr("x_val_bytes_000000.bin: truncated"));
}

}  // namespace
}  // namespace fairway::data
