#include "fairway/data/loader.h"

#include <algorithm>
#include <bit>
#include <set>

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/random.h"
#include "fairway/data/build.h"
#include "fairway/data/side_car.h"

namespace fairway::data {
namespace {

using base::fail_input;

std::vector<std::shared_ptr<const ShardReader>> open_shards(const std::string& pattern,
                                                            std::int32_t vocab_size,
                                                            const text::Tokenizer* tokenizer) {
  std::vector<std::shared_ptr<const ShardReader>> shards;
  std::set<std::filesystem::path> folders;
  for (const auto& file : find_shards(pattern)) {
    if (tokenizer && folders.insert(file.parent_path()).second)
      if (const auto manifest = find_manifest(file)) check_tokenizer(*manifest, *tokenizer, file.string());
    shards.push_back(std::make_shared<const ShardReader>(file));
    if (vocab_size > 0) shards.back()->check_vocab(vocab_size);
  }
  return shards;
}

// Row r of slices of `slice` tokens each: inputs and targets, shifted by one.
void copy_row(const std::uint16_t* from, std::int64_t window, std::int32_t* inputs, std::int32_t* targets) {
  std::copy(from, from + window, inputs);
  std::copy(from + 1, from + 1 + window, targets);
}

std::int64_t row_count(std::span<std::int32_t> inputs, std::span<std::int32_t> targets, std::int64_t window,
                       std::int64_t first, std::int64_t rows) {
  const auto count = static_cast<std::int64_t>(inputs.size()) / window;
  base::check(inputs.size() == targets.size() && inputs.size() % static_cast<std::size_t>(window) == 0,
              "rows of {} tokens into {} and {}", window, inputs.size(), targets.size());
  base::check(first >= 0 && count <= rows && first <= rows - count, "rows {}..{} of {}", first, first + count,
              rows);
  return count;
}

/// Element `index` of a random order of 0 ... count - 1: a Feistel network over the next power of four,
/// applied again while it leaves the range (Black and Rogaway, "Ciphers with arbitrary finite domains",
/// 2002).
std::uint64_t permuted(std::uint64_t index, std::uint64_t count, const base::Random& random) {
  const int half = (std::bit_width(std::max<std::uint64_t>(count - 1, 1)) + 1) / 2;
  const std::uint64_t mask = (std::uint64_t{1} << half) - 1;
  do {
    for (std::uint64_t round = 0; round < 6; ++round) {
      const std::uint64_t left = index >> half, right = index & mask;
      index = right << half | (left ^ (random.bits(round << 40 | right) & mask));
    }
  } while (index >= count);
  return index;
}

}  // namespace

void TokenStream::add(std::span<const std::uint16_t> part) {
  if (part.empty()) return;
  starts_.push_back(total_);
  parts_.push_back(part);
  total_ += part.size();
}

TokenStream TokenStream::open(const std::string& pattern, std::int32_t vocab_size,
                              const text::Tokenizer* tokenizer) {
  TokenStream stream;
  stream.shards_ = open_shards(pattern, vocab_size, tokenizer);
  for (const auto& shard : stream.shards_) stream.add(shard->tokens());
  if (stream.total_ == 0) fail_input("{}: the shards hold no tokens", pattern);
  return stream;
}

TokenStream TokenStream::from_tokens(std::vector<std::uint16_t> tokens, std::int32_t vocab_size) {
  if (tokens.empty()) fail_input("no tokens to train on");
  if (vocab_size > 0) check_token_range(tokens, vocab_size, "training tokens");
  TokenStream stream;
  stream.memory_ = std::make_shared<const std::vector<std::uint16_t>>(std::move(tokens));
  stream.add(*stream.memory_);
  return stream;
}

void TokenStream::read(std::uint64_t position, std::span<std::uint16_t> out) const {
  position %= total_;
  auto part =
      static_cast<std::size_t>(std::upper_bound(starts_.begin(), starts_.end(), position) - starts_.begin()) -
      1;
  std::uint64_t offset = position - starts_[part];
  while (!out.empty()) {
    const auto from = parts_[part].subspan(offset);
    const std::size_t count = std::min(from.size(), out.size());
    std::copy_n(from.begin(), count, out.begin());
    out = out.subspan(count);
    part = (part + 1) % parts_.size();
    offset = 0;
  }
}

BatchLoader::BatchLoader(TokenStream stream, const BatchShape& shape, State state)
    : stream_(std::move(stream)), shape_(shape), state_(state) {
  if (shape.window <= 0 || shape.slices <= 0 || shape.batch_tokens <= 0)
    fail_input("batch of {} tokens, window {}, {} slices: all must be positive", shape.batch_tokens,
               shape.window, shape.slices);
  // Divisions only: a product of hostile sizes could overflow.
  if (shape.batch_tokens % shape.slices != 0 || (shape.batch_tokens / shape.slices) % shape.window != 0)
    fail_input(
        "a batch of {} tokens is not a whole number of windows of {} in each of {} slices (data.slices)",
        shape.batch_tokens, shape.window, shape.slices);
  if (shape.order == Order::windows && stream_.size() < 2 * static_cast<std::uint64_t>(shape.window))
    fail_input("{} tokens are too few for windows of {} in random order (data.order); give more text",
               stream_.size(), shape.window);
}

/// Where the index-th window since the beginning stands: any token but the last can be in a window.
std::uint64_t BatchLoader::window_start(std::uint64_t index) const {
  const auto window = static_cast<std::uint64_t>(shape_.window);
  const auto windows = (stream_.size() - window) / window;  // whatever the phase, a target behind each
  const auto round = index / windows;
  const base::Random random(shape_.seed, fmt::format("data/windows/{}", round));
  const auto phase = random.below(std::uint64_t{1} << 60, window);
  return phase + permuted(index % windows, windows, random) * window;
}

void BatchLoader::next_step() {
  if (shape_.order == Order::windows) {
    const auto rows = static_cast<std::uint64_t>(rows_per_step()), each = std::uint64_t(shape_.window) + 1;
    tokens_.resize(rows * each);
    for (std::uint64_t i = 0; i < rows; ++i)
      stream_.read(window_start(state_.step * rows + i), std::span(tokens_).subspan(i * each, each));
    state_.position += static_cast<std::uint64_t>(shape_.batch_tokens);
  } else {
    tokens_.resize(static_cast<std::size_t>(shape_.batch_tokens + shape_.slices));
    stream_.read(state_.position, tokens_);
    state_.position += tokens_.size();
  }
  ++state_.step;
  current_ = true;
}

void BatchLoader::seek(const State& state) {
  state_ = state;
  current_ = false;
}

double BatchLoader::epoch() const noexcept {
  return static_cast<double>(state_.position) / static_cast<double>(stream_.size());
}

void BatchLoader::rows(std::int64_t first, std::span<std::int32_t> inputs,
                       std::span<std::int32_t> targets) const {
  base::check(current_, "rows() before next_step()");
  const std::int64_t count = row_count(inputs, targets, shape_.window, first, rows_per_step());
  const std::int64_t per_slice = shape_.order == Order::windows ? 1 : rows_per_slice();
  for (std::int64_t i = 0; i < count; ++i) {
    const std::int64_t row = first + i;
    const std::int64_t start =
        row / per_slice * (per_slice * shape_.window + 1) + row % per_slice * shape_.window;
    copy_row(tokens_.data() + start, shape_.window, inputs.data() + i * shape_.window,
             targets.data() + i * shape_.window);
  }
}

std::vector<std::uint16_t> read_shards(const std::string& pattern, std::int32_t vocab_size,
                                       const text::Tokenizer* tokenizer) {
  std::vector<std::uint16_t> tokens;
  for (const auto& shard : open_shards(pattern, vocab_size, tokenizer))
    tokens.insert(tokens.end(), shard->tokens().begin(), shard->tokens().end());
  return tokens;
}

}  // namespace fairway::data
