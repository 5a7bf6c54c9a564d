#include "fairway/data/loader.h"

#include <gmock/gmock.h>

#include <numeric>
#include <set>

#include "fairway/data/build.h"
#include "support.h"

namespace fairway::data {
namespace {

using testing::DataFolder;
using ::testing::HasSubstr;
using testing::input_error;

std::vector<std::uint16_t> counting(std::size_t count) {
  std::vector<std::uint16_t> tokens(count);
  std::iota(tokens.begin(), tokens.end(), std::uint16_t{0});
  return tokens;
}

void write_shard(const std::filesystem::path& path, std::span<const std::uint16_t> tokens) {
  ShardWriter writer(path);
  writer.write(tokens);
  writer.finish();
}

TEST(TokenStream, JoinsShardsInOrderAndWraps) {
  const DataFolder folder;
  const auto tokens = counting(100);
  write_shard(folder / "x_train_000001.bin", std::span(tokens).subspan(40, 59));
  write_shard(folder / "x_train_000000.bin", std::span(tokens).first(40));
  write_shard(folder / "x_train_000002.bin", {});
  write_shard(folder / "x_train_000003.bin", std::span(tokens).last(1));
  const auto stream = TokenStream::open(folder.glob("x_train_*.bin"), 1024);
  EXPECT_EQ(stream.size(), 100u);
  for (const std::uint64_t position : {0ull, 39ull, 40ull, 98ull, 99ull, 100ull, 12'345ull}) {
    std::vector<std::uint16_t> out(230);
    stream.read(position, out);
    for (std::size_t i = 0; i < out.size(); ++i) ASSERT_EQ(out[i], (position + i) % 100) << position;
  }
  EXPECT_THAT(input_error([&] { TokenStream::open(folder.glob("x_train_*.bin"), 50); }),
              HasSubstr("x_train_000001.bin: token id 50 at position 10"));
  EXPECT_THAT(input_error([&] { TokenStream::open(folder.glob("none_*.bin"), 50); }),
              HasSubstr("none_*.bin: no shards match"));
  EXPECT_THAT(input_error([&] { TokenStream::open(folder.glob("*2.bin"), 50); }),
              HasSubstr("hold no tokens"));
  EXPECT_THAT(input_error([] { TokenStream::from_tokens({}); }), HasSubstr("no tokens"));
}

// The published arithmetic, written out independently: rank r of R, micro-step m of A = slices / R reads
// R * (Lr + 1) tokens and takes [r(Lr+1), (r+1)(Lr+1)).
TEST(BatchLoader, IsThePublishedStreamForAnyNumberOfRanks) {
  const auto tokens = counting(5003);
  const std::int64_t batch = 8 * 24, window = 6;
  for (const std::int64_t ranks : {1, 2, 4, 8}) {
    BatchLoader loader(TokenStream::from_tokens(tokens), {batch, window, 8});
    const std::int64_t micro_steps = 8 / ranks, local = batch / (ranks * micro_steps);
    std::uint64_t position = 0;
    for (int step = 0; step < 40; ++step) {  // 40 * 200 tokens: wraps
      loader.next_step();
      for (std::int64_t m = 0; m < micro_steps; ++m) {
        for (std::int64_t r = 0; r < ranks; ++r) {
          std::vector<std::int32_t> inputs(local), targets(local);
          loader.rows((m * ranks + r) * loader.rows_per_slice(), inputs, targets);  // slices as published
          for (std::int64_t i = 0; i < local; ++i) {
            const auto at = position + static_cast<std::uint64_t>(r * (local + 1) + i);
            ASSERT_EQ(inputs[i], tokens[at % tokens.size()]) << ranks << " " << step << " " << i;
            ASSERT_EQ(targets[i], tokens[(at + 1) % tokens.size()]);
          }
        }
        position += static_cast<std::uint64_t>(ranks * (local + 1));
      }
    }
  }
}

TEST(BatchLoader, MicroBatchesOnlyChooseRows) {
  BatchLoader loader(TokenStream::from_tokens(counting(999)), {48, 4, 2});
  loader.next_step();
  EXPECT_EQ(loader.rows_per_step(), 12);
  EXPECT_EQ(loader.rows_per_slice(), 6);
  std::vector<std::int32_t> all(48), all_targets(48);
  loader.rows(0, all, all_targets);
  for (const std::int64_t rows : {1, 2, 3, 4, 6}) {
    for (std::int64_t first = 0; first < 12; first += rows) {
      std::vector<std::int32_t> inputs(rows * 4), targets(rows * 4);
      loader.rows(first, inputs, targets);
      EXPECT_TRUE(std::equal(inputs.begin(), inputs.end(), all.begin() + first * 4));
      EXPECT_TRUE(std::equal(targets.begin(), targets.end(), all_targets.begin() + first * 4));
    }
  }
  EXPECT_EQ(all[24], 25);  // the second slice begins after slice one's 24 + 1 tokens
  EXPECT_EQ(all_targets[23], 24);
}

TEST(BatchLoader, ResumesFromItsIntegers) {
  const auto stream = TokenStream::from_tokens(counting(1000));
  BatchLoader whole(stream, {64, 8, 8});
  for (int i = 0; i < 17; ++i) whole.next_step();
  BatchLoader resumed(stream, {64, 8, 8}, whole.state());
  EXPECT_EQ(whole.state().step, 17u);
  EXPECT_EQ(whole.state().position, 17u * 72u);
  EXPECT_DOUBLE_EQ(whole.epoch(), 17 * 72 / 1000.0);
  for (int i = 0; i < 3; ++i) {
    whole.next_step();
    resumed.next_step();
    std::vector<std::int32_t> a(64), b(64), at(64), bt(64);
    whole.rows(0, a, at);
    resumed.rows(0, b, bt);
    EXPECT_EQ(a, b);
    EXPECT_EQ(at, bt);
  }
}

BatchShape random_windows(std::uint64_t seed) { return {12, 4, 1, Order::windows, seed}; }

/// The first input of each row; a counting stream's value is its place.
std::vector<std::int32_t> starts(BatchLoader& loader, int steps) {
  std::vector<std::int32_t> result;
  for (int step = 0; step < steps; ++step) {
    std::vector<std::int32_t> inputs(12), targets(12);
    loader.next_step();
    loader.rows(0, inputs, targets);
    for (std::size_t i = 0; i < inputs.size(); ++i) {
      EXPECT_EQ(targets[i], inputs[i] + 1);
      if (i % 4 != 0) {
        EXPECT_EQ(inputs[i], inputs[i - 1] + 1);
      }
    }
    for (std::size_t row = 0; row < 3; ++row) result.push_back(inputs[4 * row]);
  }
  return result;
}

TEST(BatchLoader, RandomWindowsComeOnceInEachRoundWithAPhaseOfItsOwn) {
  const auto stream = TokenStream::from_tokens(counting(65));  // 15 windows a round, five steps
  BatchLoader loader(stream, random_windows(7));
  std::set<std::vector<std::int32_t>> orders;
  std::set<std::int32_t> phases;
  for (int round = 0; round < 20; ++round) {
    auto order = starts(loader, 5);
    orders.insert(order);
    std::ranges::sort(order);
    phases.insert(order.front());
    for (std::size_t i = 0; i < order.size(); ++i)
      EXPECT_EQ(order[i], order.front() + 4 * static_cast<std::int32_t>(i)) << round;
    EXPECT_LT(order.front(), 4);
  }
  EXPECT_EQ(orders.size(), 20u);
  EXPECT_EQ(phases.size(), 4u);
}

TEST(BatchLoader, RandomWindowsFollowFromTheSeedAndTheStep) {
  const auto stream = TokenStream::from_tokens(counting(65));
  BatchLoader whole(stream, random_windows(7)), other(stream, random_windows(8));
  const auto first = starts(whole, 3);
  EXPECT_NE(starts(other, 3), first);
  BatchLoader resumed(stream, random_windows(7), whole.state());
  EXPECT_EQ(starts(resumed, 4), starts(whole, 4));
  whole.seek({});
  EXPECT_EQ(starts(whole, 3), first);
  EXPECT_THAT(input_error([&] { BatchLoader(TokenStream::from_tokens(counting(7)), random_windows(7)); }),
              HasSubstr("data.order"));
}

TEST(BatchLoader, ImpossibleShapesAreErrors) {
  const auto stream = TokenStream::from_tokens(counting(1000));
  EXPECT_THAT(input_error([&] {
                BatchLoader(stream, {100, 8, 8});
              }),
              HasSubstr("whole number of windows of 8"));
  EXPECT_THAT(input_error([&] { BatchLoader(stream, {64, -8, 8}); }), HasSubstr("must be positive"));
  BatchLoader loader(stream, {64, 8, 8});
  std::vector<std::int32_t> inputs(8), targets(8);
  EXPECT_THROW(loader.rows(0, inputs, targets), base::Error);
  loader.next_step();
  EXPECT_THROW(loader.rows(8, inputs, targets), base::Error);
  EXPECT_NO_THROW(loader.rows(7, inputs, targets));
}

}  // namespace
}  // namespace fairway::data
