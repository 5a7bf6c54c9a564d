#include "fairway/base/random.h"

#include "fairway/base/error.h"
#include "fairway/base/hash.h"

#include <cmath>
#include <numbers>

namespace fairway::base {
namespace {

// Lanes of one stream: each kind of draw has its own, so that draws of different kinds at one index are
// independent.
enum Lane : std::uint32_t { lane_bits = 0, lane_uniform = 1, lane_normal = 2, lane_below = 3 };

/// 53 of the 64 bits as a double in [0, 1).
double unit_interval(std::uint32_t high, std::uint32_t low) {
  const std::uint64_t bits = (static_cast<std::uint64_t>(high) << 32) | low;
  return static_cast<double>(bits >> 11) * 0x1.0p-53;
}

}  // namespace

std::array<std::uint32_t, 4> philox4x32(std::array<std::uint32_t, 4> counter,
                                        std::array<std::uint32_t, 2> key) {
  constexpr std::uint64_t multiplier0 = 0xD2511F53u, multiplier1 = 0xCD9E8D57u;
  constexpr std::uint32_t weyl0 = 0x9E3779B9u, weyl1 = 0xBB67AE85u;
  for (int round = 0; round < 10; ++round) {
    const std::uint64_t product0 = multiplier0 * counter[0];
    const std::uint64_t product1 = multiplier1 * counter[2];
    counter = {static_cast<std::uint32_t>(product1 >> 32) ^ counter[1] ^ key[0],
               static_cast<std::uint32_t>(product1),
               static_cast<std::uint32_t>(product0 >> 32) ^ counter[3] ^ key[1],
               static_cast<std::uint32_t>(product0)};
    key[0] += weyl0;
    key[1] += weyl1;
  }
  return counter;
}

Random::Random(std::uint64_t seed, std::string_view purpose) : key_(seed), purpose_(hash64(purpose)) {}

std::array<std::uint32_t, 4> Random::block(std::uint64_t index, std::uint32_t lane) const {
  // Counter words: index (64 bits), then the purpose's hash with the lane mixed into its low bits (see the
  // header).
  const std::uint64_t stream = purpose_ ^ lane;
  return philox4x32({static_cast<std::uint32_t>(index), static_cast<std::uint32_t>(index >> 32),
                     static_cast<std::uint32_t>(stream), static_cast<std::uint32_t>(stream >> 32)},
                    {static_cast<std::uint32_t>(key_), static_cast<std::uint32_t>(key_ >> 32)});
}

std::uint32_t Random::bits(std::uint64_t index) const { return block(index, lane_bits)[0]; }

double Random::uniform(std::uint64_t index) const {
  const auto words = block(index, lane_uniform);
  return unit_interval(words[0], words[1]);
}

std::array<double, 2> Random::normal_pair(std::uint64_t index) const {
  const auto words = block(index, lane_normal);
  const double radius =
      std::sqrt(-2.0 * std::log(1.0 - unit_interval(words[0], words[1])));  // 1-u is never 0
  const double angle = 2.0 * std::numbers::pi * unit_interval(words[2], words[3]);
  return {radius * std::cos(angle), radius * std::sin(angle)};
}

double Random::normal(std::uint64_t index) const { return normal_pair(index)[0]; }

std::uint64_t Random::below(std::uint64_t index, std::uint64_t bound) const {
  check(bound > 0, "random number below 0 asked for");
  // Lemire, "Fast random integer generation in an interval", 2019. A rejected draw would need more draws at
  // the same index, so 128 random bits are used instead: the bias is then below bound / 2^128.
  const auto words = block(index, lane_below);
  const auto high = (static_cast<std::uint64_t>(words[0]) << 32) | words[1];
  const auto low = (static_cast<std::uint64_t>(words[2]) << 32) | words[3];
  __extension__ using Wide = unsigned __int128;
  const Wide carry = (static_cast<Wide>(low) * bound) >> 64;
  return static_cast<std::uint64_t>((static_cast<Wide>(high) * bound + carry) >> 64);
}

}  // namespace fairway::base
