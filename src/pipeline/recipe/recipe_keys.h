#pragma once
// How the lines of the table of recipe keys are written.

#include <string>
#include <utility>
#include <vector>

#include "fairway/pipeline/recipe/recipe_schema.h"

namespace fairway::pipeline {

/// The place reached by one member pointer after the other.
template <auto... Path>
KeyValue reach(Recipe& recipe) {
  auto follow = [](auto& self, auto& object, auto first, auto... rest) -> KeyValue {
    if constexpr (sizeof...(rest) == 0) {
      return &(object.*first);
    } else {
      return self(self, object.*first, rest...);
    }
  };
  return follow(follow, recipe, Path...);
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
  return {std::move(name), &reach<Path...>, 0, 1, {}, false, false, std::move(help)};
}
template <auto... Path>
RecipeKey choice(std::string name, std::vector<std::string> choices, std::string help) {
  return {std::move(name), &reach<Path...>, 0, 0, std::move(choices), false, false, std::move(help)};
}
template <auto... Path>
RecipeKey text(std::string name, std::string help) {
  return choice<Path...>(std::move(name), {}, std::move(help));
}
template <auto... Path>
RecipeKey path(std::string name, std::string help) {
  return {std::move(name), &reach<Path...>, 0, 0, {}, true, false, std::move(help)};
}

/// The keys of [adapt].
void add_adapt_keys(std::vector<RecipeKey>& keys);

}  // namespace fairway::pipeline
