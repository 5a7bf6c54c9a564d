#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

namespace fairway::base {

/// Half-open range [begin, end) of elements of a flat buffer, tokens of a text, items of a list.
struct Range {
  std::int64_t begin = 0, end = 0;
  constexpr std::int64_t size() const { return end - begin; }
  constexpr bool contains(std::int64_t i) const { return begin <= i && i < end; }
  /// That part of `flat`, which must hold it.
  template <class T>
  std::span<T> of(std::span<T> flat) const {
    return flat.subspan(static_cast<std::size_t>(begin), static_cast<std::size_t>(size()));
  }
  bool operator==(const Range&) const = default;
};

}  // namespace fairway::base
