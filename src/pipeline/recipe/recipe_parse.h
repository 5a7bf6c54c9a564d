#pragma once
// Pieces of reading a recipe that its files share.

#include <map>
#include <string>

#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/pipeline/recipe/recipe_schema.h"
#include "recipe/recipe_text.h"

namespace fairway::pipeline {

/// The key of that name, or null.
const RecipeKey* find_key(std::string_view name);

/// What is wrong with the key's value ("train.steps = -5: must be 0 to 1e9"), or "".
std::string range_error(const RecipeKey& key, const Recipe& recipe);

/// Puts one value in place with every check that concerns it alone. `where` begins the error.
void assign(const RecipeKey& key, const toml::node& node, Recipe& recipe, const std::string& where);

/// The key's paths, relative to `folder`. Without a folder (a recipe inside a model file) they stay as they
/// are.
void make_absolute(const RecipeKey& key, Recipe& recipe, const std::filesystem::path& folder);

/// Sets `key` from the right side of a --set. Throws an input error beginning with "--set ".
void apply_override(Recipe& recipe, const std::string& assignment, std::string& key_name);

/// Throws an input error for a rule of quant.rules that no tensor's storage follows: one that fits none, or
/// that stands behind rules which fit all its tensors.
void validate_rules(const Recipe& recipe);

/// Shrinks the recipe (docs/recipes.md, "Scale") and says in `comments` what each changed value was.
void apply_scale(LoadedRecipe& loaded, const std::string& scale);

/// " (did you mean 'train.steps'?)" or "" for a name that is no key.
std::string suggest_key(const std::string& name);

}  // namespace fairway::pipeline
