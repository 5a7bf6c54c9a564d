#pragma once
// The one table of recipe keys: parsing, --set, range checks, suggestions, the resolved recipe, the
// documentation and --scale all read it. A new key is a member in recipe.h and a line in recipe_schema.cpp.

#include <cstdint>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "fairway/pipeline/recipe/recipe.h"

namespace fairway::pipeline {

/// The place of a choice: an enum, or what else has a table of names.
struct Choice {
  void* place;
  std::string_view (*name)(const void* place);
  bool (*set)(void* place, std::string_view name);  ///< false: no such name
};

/// A key's place in a Recipe. The alternative is the key's type.
using KeyValue = std::variant<bool*, int*, std::int64_t*, float*, double*, std::string*, std::vector<int>*,
                              std::vector<double>*, std::vector<std::string>*, Choice>;

struct RecipeKey {
  std::string name;                  ///< "train.steps"; without a dot for the keys at the top
  KeyValue (*value)(Recipe&);        ///< its place
  double low = 0, high = 0;          ///< numbers: allowed range, both ends included
  std::vector<std::string> choices;  ///< names of a choice
  bool is_path = false;              ///< relative to the recipe's folder
  bool counted_in_steps = false;     ///< --scale multiplies it along with train.steps
  std::string help;                  ///< one line
};

const std::vector<RecipeKey>& recipe_keys();

/// "integer", "number", "true or false", "text", "list of integers", "list of numbers", "list of texts".
std::string type_name(const RecipeKey& key);
/// "1 .. 64", "f32 or bf16", ...
std::string allowed_values(const RecipeKey& key);
/// The key's value in a recipe as TOML.
std::string toml_value(const RecipeKey& key, const Recipe& recipe);
/// The table of docs/recipes.md: one Markdown table per section.
std::string recipe_keys_markdown();

}  // namespace fairway::pipeline
