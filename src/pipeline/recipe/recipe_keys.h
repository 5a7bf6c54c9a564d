#pragma once
// How the lines of the table of recipe keys are written.

#include <functional>
#include <span>
#include <string>
#include <type_traits>
#include <utility>
#include <vector>

#include "fairway/pipeline/recipe/recipe_schema.h"

namespace fairway::pipeline {

/// The member reached by one member pointer (or function of the object) after the other.
template <auto First, auto... Rest>
auto& member(auto& object) {
  auto& next = std::invoke(First, object);
  if constexpr (sizeof...(Rest) == 0) {
    return next;
  } else {
    return member<Rest...>(next);
  }
}
template <auto... Path>
using MemberType = std::remove_reference_t<decltype(member<Path...>(std::declval<Recipe&>()))>;

template <auto... Path>
KeyValue reach(Recipe& recipe) {
  return &member<Path...>(recipe);
}

/// The values of a choice by name; of a number format those that have a use in a recipe.
template <class T>
auto values() {
  if constexpr (requires { T::f32, T::bf16; }) {
    return std::to_array<base::Named<T>>({{T::f32, "f32"}, {T::bf16, "bf16"}});
  } else {
    return names_of(T{});
  }
}

/// `Values`: a function that returns a range of base::Named.
template <auto Values, auto... Path>
KeyValue reach_choice(Recipe& recipe) {
  using T = MemberType<Path...>;
  return Choice{&member<Path...>(recipe),
                [](const void* place) {
                  for (const auto& [value, name] : Values())
                    if (value == *static_cast<const T*>(place)) return name;
                  return std::string_view();
                },
                [](void* place, std::string_view text) {
                  for (const auto& [value, name] : Values())
                    if (name == text) return *static_cast<T*>(place) = value, true;
                  return false;
                }};
}

struct Range {
  double low, high;
};
constexpr double kMaxTokens = 1e15;

enum class Counted { no, yes };

template <auto... Path>
RecipeKey number(std::string name, Range range, std::string help, Counted counted = Counted::no) {
  return {std::move(name), &reach<Path...>,         range.low,      range.high, {},
          false,           counted == Counted::yes, std::move(help)};
}
template <auto... Path>
RecipeKey flag(std::string name, std::string help) {
  return {std::move(name), &reach<Path...>, 0, 0, {}, false, false, std::move(help)};
}
template <auto... Path>
RecipeKey text(std::string name, std::string help) {
  return {std::move(name), &reach<Path...>, 0, 0, {}, false, false, std::move(help)};
}
template <auto Values, auto... Path>
RecipeKey choice_of(std::string name, std::string help) {
  std::vector<std::string> names;
  for (const auto& entry : Values()) names.emplace_back(entry.name);
  return {std::move(name), &reach_choice<Values, Path...>, 0, 0, std::move(names), false, false,
          std::move(help)};
}
template <auto... Path>
RecipeKey choice(std::string name, std::string help) {
  return choice_of<&values<MemberType<Path...>>, Path...>(std::move(name), std::move(help));
}
template <auto... Path>
RecipeKey path(std::string name, std::string help) {
  return {std::move(name), &reach<Path...>, 0, 0, {}, true, false, std::move(help)};
}

/// Calls `use` for the text, or each text of the list, that the key holds.
template <class F>
void for_each_text(const RecipeKey& key, Recipe& recipe, F use) {
  const auto value = key.value(recipe);
  if (auto* one = std::get_if<std::string*>(&value)) use(**one);
  if (auto* many = std::get_if<std::vector<std::string>*>(&value))
    for (auto& text : **many) use(text);
}

/// Text as TOML has it, in quotes.
std::string quote(std::string_view text);

/// The keys of [adapt].
void add_adapt_keys(std::vector<RecipeKey>& keys);

}  // namespace fairway::pipeline
