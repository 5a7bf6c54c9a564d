#pragma once
// Counter-based random numbers: a value depends only on (seed, purpose, index), never on the order of calls,
// on threads, devices or ranks. Philox4x32-10, Salmon et al., "Parallel random numbers: as easy as 1, 2, 3",
// SC 2011.

#include <array>
#include <cstdint>
#include <string_view>

namespace fairway::base {

/// One block of Philox4x32-10.
std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key);

/// A stream of random numbers addressed by index. Cheap to copy; all members are const and thread-safe.
class Random {
 public:
  /// `purpose` separates streams of one seed ("init/blocks.0.attn.c_q", "sample").
  Random(std::uint64_t seed, std::string_view purpose);

  std::uint32_t bits(std::uint64_t index) const;  ///< 32 random bits
  double uniform(std::uint64_t index) const;      ///< in [0, 1), 53 bits
  double normal(std::uint64_t index) const;       ///< standard normal (Box-Muller)
  /// Two independent normals of one draw (Box-Muller makes both); the first is normal(index). For filling
  /// arrays: half the cost of normal(i) for each element.
  std::array<double, 2> normal_pair(std::uint64_t index) const;
  std::uint64_t below(std::uint64_t index, std::uint64_t bound) const;  ///< in [0, bound), bound > 0

 private:
  std::array<std::uint32_t, 4> block(std::uint64_t index, std::uint32_t lane) const;
  std::uint64_t key_ = 0;
  std::uint64_t purpose_ =
      0;  ///< hash of the purpose: the upper two counter words, with the lane in its low bits
};

}  // namespace fairway::base
