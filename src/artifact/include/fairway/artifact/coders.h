#pragma once
// What each entropy coder makes of the same integers.

#include <cstdint>
#include <string>
#include <vector>

#include "fairway/artifact/artifact.h"

namespace fairway::artifact {

struct CoderResult {
  WriteOptions how;                 ///< the coder at its highest level
  std::uint64_t weights_bytes = 0;  ///< the stored section `weights`, with its streams
  std::uint64_t file_bytes = 0;     ///< the whole artifact
  double bits_per_weight = 0;  ///< weights_bytes over the stored elements of all tensors, scales among them
  double encode_seconds = 0, decode_seconds = 0;  ///< of the whole file
  std::string name() const;  ///< "brotli 11", "brotli 11, shuffled by 2", "groups, smallest"
};

struct CoderComparison {
  std::uint64_t weights = 0;    ///< elements of all tensors
  std::uint64_t raw_bytes = 0;  ///< the section `weights` before coding
  std::uint64_t plain_bytes =
      0;  ///< values at their own width (int6: 6 bits), scales and halves at 16: bit packing
  std::uint64_t entropy_bytes =
      0;  ///< integers at the order-0 entropy of their tensor, all else as in plain_bytes
  std::vector<CoderResult> coders;
};

/// Packs the artifact with each coder at its highest level, with brotli after a byte shuffle as PR 2143 did,
/// and in groups with the smallest of all coders, and checks that what comes back is what went in. zstd 22
/// and brotli 11 take about 2 s for each million weights. `threads`: as in WriteOptions, for the groups.
CoderComparison compare_coders(const Artifact& artifact, int threads = 1);

}  // namespace fairway::artifact
