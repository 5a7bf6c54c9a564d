#pragma once
// Enums by name. An enum that is read or written as text has one table beside it, found by its type:
//
//   constexpr auto names_of(Tail) { return base::names<Tail>("clean", "published"); }

#include <array>
#include <optional>
#include <string_view>

namespace fairway::base {

template <class T>
struct Named {
  T value;
  std::string_view name;
};

/// The table of an enum whose values are 0, 1, ...: their names in order.
template <class E>
constexpr auto names(auto... name) {
  int value = 0;
  return std::array{Named<E>{static_cast<E>(value++), name}...};
}

/// The name of a value; "" when its table has none.
template <class T>
constexpr std::string_view name_of(T value) {
  for (const auto& entry : names_of(value))
    if (entry.value == value) return entry.name;
  return {};
}

/// The value of that name, or nothing.
template <class T>
constexpr std::optional<T> parse_name(std::string_view name) {
  for (const auto& entry : names_of(T{}))
    if (entry.name == name) return entry.value;
  return std::nullopt;
}

}  // namespace fairway::base
