#pragma once
// The training stream and the validation set, exactly as docs/spec/training.md section 1 has them.

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fairway/base/enum_names.h"
#include "fairway/data/shard.h"
#include "fairway/text/tokenizer.h"

namespace fairway::data {

/// One endless stream: the shards in lexicographic order, wrapping to the first after the last. Immutable.
class TokenStream {
 public:
  /// Opens all shards that match; checks ids against `vocab_size` (0: not). Where a manifest.json lies beside
  /// the shards and `tokenizer` is given, they must belong together. No match or no token is an input error.
  static TokenStream open(const std::string& pattern, std::int32_t vocab_size,
                          const text::Tokenizer* tokenizer = nullptr);
  /// Tokens in memory.
  static TokenStream from_tokens(std::vector<std::uint16_t> tokens, std::int32_t vocab_size = 0);

  std::uint64_t size() const noexcept { return total_; }  ///< tokens in one round
  std::size_t shard_count() const noexcept { return parts_.size(); }
  /// Copies stream tokens [position, position + out.size()), wrapping as often as needed. O(shards) to seek.
  void read(std::uint64_t position, std::span<std::uint16_t> out) const;

 private:
  TokenStream() = default;
  void add(std::span<const std::uint16_t> part);
  std::vector<std::shared_ptr<const ShardReader>> shards_;
  std::shared_ptr<const std::vector<std::uint16_t>> memory_;
  std::vector<std::span<const std::uint16_t>> parts_;
  std::vector<std::uint64_t> starts_;  // of each part in the stream
  std::uint64_t total_ = 0;
};

/// In which order a step's rows come from the stream.
enum class Order {
  sequence,  ///< as the text stands (docs/spec/training.md section 1)
  /// Each round through the stream begins at a random place within a window and reads windows in a random
  /// order, each once (docs/spec/caseops_training.md section 5.1, with our own random numbers).
  windows,
};
constexpr auto names_of(Order) { return base::names<Order>("sequence", "windows"); }

struct BatchShape {
  std::int64_t batch_tokens = 0;  ///< targets of one optimiser step
  std::int64_t window = 0;        ///< tokens of one row
  std::int64_t slices = 8;  ///< recipe key data.slices; batch_tokens must be a multiple of slices * window
  Order order = Order::sequence;
  std::uint64_t seed = 0;  ///< of Order::windows
};

/// The whole state of a loader: with the same stream and shape, one resumed from it goes on exactly.
struct LoaderState {
  std::uint64_t step = 0;      ///< steps taken
  std::uint64_t position = 0;  ///< tokens of the stream read before the next step
};

/// Cuts the stream into steps. With Order::sequence a step reads slices * (L + 1) consecutive tokens, L =
/// batch_tokens / slices. Slice j is tokens [j(L+1), (j+1)(L+1)) of the step; its inputs are the first L, its
/// targets the last L, each cut into rows of `window`. So the first token of every slice is never a target
/// and the last never an input; nothing else is skipped. With Order::windows each row reads window + 1 tokens
/// of its own (data.slices means nothing then); less than two windows of a round are left out. Micro-batches
/// and ranks only choose rows: neither changes what a step reads.
class BatchLoader {
 public:
  using State = LoaderState;

  BatchLoader(TokenStream stream, const BatchShape& shape, State state = {});

  /// Makes the next step current.
  void next_step();
  /// Makes the step at `state` the next one.
  void seek(const State& state);
  State state() const noexcept {
    return state_;
  }                               ///< after next_step(): the state that resumes with the step after it
  double epoch() const noexcept;  ///< rounds through the stream at state().position

  std::int64_t rows_per_step() const noexcept { return shape_.batch_tokens / shape_.window; }
  std::int64_t rows_per_slice() const noexcept { return rows_per_step() / shape_.slices; }
  const BatchShape& shape() const noexcept { return shape_; }
  const TokenStream& stream() const noexcept { return stream_; }

  /// Rows [first, first + count) of the current step, row-major [count][window]; count follows from the
  /// spans' size, both the same. Rows are numbered slice by slice. Safe to call from several threads.
  void rows(std::int64_t first, std::span<std::int32_t> inputs, std::span<std::int32_t> targets) const;

 private:
  std::uint64_t window_start(std::uint64_t index) const;
  TokenStream stream_;
  BatchShape shape_;
  State state_;
  std::vector<std::uint16_t> tokens_;  // of the current step: slices * (L + 1), or rows * (window + 1)
  bool current_ = false;
};

/// All tokens of the shards that match, in order.
std::vector<std::uint16_t> read_shards(const std::string& pattern, std::int32_t vocab_size,
                                       const text::Tokenizer* tokenizer = nullptr);

}  // namespace fairway::data
