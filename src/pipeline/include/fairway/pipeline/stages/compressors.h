#pragma once
// What general-purpose compressors make of the same text: the yardstick beside the score.

#include "fairway/base/thread_pool.h"

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

namespace fairway::pipeline {

struct CompressorResult {
  std::string name;  ///< "xz -9e", "zstd -22 --ultra", ...
  std::uint64_t bytes = 0;
  double bits_per_byte = 0;
  std::string note;  ///< what besides the text it needed
};

/// Compresses `text` with xz -9e, zstd -22 --ultra, and zstd -22 with a dictionary trained on `training_text`
/// and with that text itself as a prefix (both skipped when it is empty). At once on the pool's threads,
/// where memory allows.
std::vector<CompressorResult> compress_baselines(std::string_view text, std::string_view training_text,
                                                 base::ThreadPool& pool);

}  // namespace fairway::pipeline
