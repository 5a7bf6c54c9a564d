#pragma once
// Tokens of a space and the case operator behind it (PR 2109, docs/spec/leaders.md section 6): the pair of
// the lone space piece and an operator becomes one id, that of a byte piece which no text has.

#include <algorithm>
#include <array>
#include <cstdint>
#include <limits>
#include <span>
#include <vector>

namespace fairway::text {

struct MarkerFusion {
  struct Pair {
    std::int32_t marker, donor;
  };
  std::int32_t space = -1;  ///< the lone space piece
  std::array<Pair, 3> pairs = {};

  /// Every (space, marker) from ids[first] on becomes its donor. `counts`, where given, holds as many numbers
  /// as `ids`; a donor's is the sum, at most 65,535.
  template <class Id>
  void fuse(std::vector<Id>& ids, std::size_t first = 0, std::vector<std::uint16_t>* counts = nullptr) const {
    std::size_t to = first;
    for (std::size_t from = first; from < ids.size(); ++from, ++to) {
      const Pair* pair = from + 1 < ids.size() && ids[from] == space ? of_marker(ids[from + 1]) : nullptr;
      ids[to] = pair ? static_cast<Id>(pair->donor) : ids[from];
      if (counts) {
        const std::uint32_t sum = (*counts)[from] + (pair ? (*counts)[from + 1] : 0u);
        (*counts)[to] = static_cast<std::uint16_t>(
            std::min<std::uint32_t>(sum, std::numeric_limits<std::uint16_t>::max()));
      }
      if (pair) ++from;
    }
    ids.resize(to);
    if (counts) counts->resize(to);
  }

  /// What fuse() was given.
  template <class To, class Id>
  std::vector<To> part(std::span<const Id> ids) const {
    std::vector<To> result;
    result.reserve(ids.size() + ids.size() / 8);
    for (const Id id : ids) {
      const Pair* pair = of_donor(id);
      if (pair) result.push_back(static_cast<To>(space));
      result.push_back(static_cast<To>(pair ? pair->marker : id));
    }
    return result;
  }

  const Pair* of_donor(std::int32_t id) const {
    const auto found = std::ranges::find(pairs, id, &Pair::donor);
    return found == pairs.end() ? nullptr : &*found;
  }
  const Pair* of_marker(std::int32_t id) const {
    const auto found = std::ranges::find(pairs, id, &Pair::marker);
    return found == pairs.end() ? nullptr : &*found;
  }
};

}  // namespace fairway::text
