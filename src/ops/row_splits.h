#pragma once
#include <cstdint>

namespace fairway::ops {

constexpr std::int64_t ceil_div(std::int64_t a, std::int64_t b) { return (a + b - 1) / b; }

/// Rows in splits that keep partial sums of a parameter's gradient each: from the shape alone, so that the
/// sums (split by split, in order) are the same for any number of threads.
struct RowSplits {
  std::int64_t rows = 0;
  std::int64_t each = 0;  ///< rows of each split but the last
  std::int64_t count = 0;
};
/// At most 64 splits. Not inline: kernel sources of several instruction sets use it.
RowSplits split_rows(std::int64_t rows, std::int64_t columns);
/// For a GPU: up to `most` splits (at most 512), which its multiprocessors take in turn.
RowSplits split_rows_on_device(std::int64_t rows, std::int64_t most = 512);

}  // namespace fairway::ops
