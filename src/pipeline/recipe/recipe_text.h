#pragma once
// What the files that hold recipe keys (recipes, sweeps) have in common, and where recipes are found.

#include <filesystem>
#include <string>
#include <string_view>
#include <vector>

#include <toml++/toml.h>

namespace fairway::pipeline {

/// Throws an input error with file, line and column.
toml::table parse_toml(std::string_view text, const std::string& label);

/// "FILE:LINE:COLUMN".
std::string position(const std::string& label, const toml::source_region& region);

/// "a table", "text", ...
std::string_view kind_of(const toml::node& node);

/// Do keys begin with it ("train", "adapt.then")?
bool is_section(const std::string& name);

/// Is it a file, not the name of a recipe inside the program?
bool is_path(const std::string& name_or_path);

/// The name of a recipe as it stands in a file of `folder`: a path made absolute, a name as it is.
std::string located(const std::string& name_or_path, const std::filesystem::path& folder);

constexpr std::uint64_t kMaxRecipeBytes = 1 << 20;

struct RecipeText {
  std::string text;
  std::string label;  ///< the file, or "builtin:NAME.toml"
  std::filesystem::path
      folder;  ///< of its relative paths; empty: a recipe in a model file, which has no base
};

/// What two texts have in common that are one.
std::string identity(const RecipeText& text);

/// A file, or the name of a recipe inside the program (see load_recipe).
RecipeText find_recipe(const std::string& name_or_path);

/// The recipe that `from` begins with, by its key `base`. `above`: the identities of the texts that led here,
/// `from` the last. Input errors begin with file, line and column.
RecipeText open_base(const toml::node& base, const RecipeText& from, const std::vector<std::string>& above);

}  // namespace fairway::pipeline
