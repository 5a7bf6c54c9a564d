#include "recipe/recipe_text.h"

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/path.h"
#include "fairway/base/text.h"
#include "recipe/recipe_keys.h"

namespace fairway::pipeline {
namespace {

using base::fail_input;
constexpr std::string_view kBuiltinScheme = "builtin:";
constexpr std::size_t kMostBases = 8;

/// The recipe that `name` stands for in the text `from`: a path is relative to the text, and beside a
/// built-in recipe stand the others.
RecipeText find_base(const std::string& name, const RecipeText& from) {
  if (from.folder.empty()) fail_input("only the recipe in a file begins with another");
  const bool beside = name.find('/') == std::string::npos && name.ends_with(".toml");
  if (beside && from.label.starts_with(kBuiltinScheme))
    return find_recipe(std::filesystem::path(name).stem());
  return find_recipe(located(name, from.folder));
}

}  // namespace

toml::table parse_toml(std::string_view text, const std::string& label) {
  try {
    return toml::parse(text, label);
  } catch (const toml::parse_error& error) {
    fail_input("{}: broken TOML: {}", position(label, error.source()), error.description());
  }
}

std::string position(const std::string& label, const toml::source_region& region) {
  return fmt::format("{}:{}:{}", label, region.begin.line, region.begin.column);
}

std::string_view kind_of(const toml::node& node) {
  switch (node.type()) {
    case toml::node_type::table:
      return "a table";
    case toml::node_type::array:
      return "a list";
    case toml::node_type::string:
      return "text";
    case toml::node_type::integer:
      return "an integer";
    case toml::node_type::floating_point:
      return "a number with a fraction";
    case toml::node_type::boolean:
      return "true or false";
    default:
      return "a date or time";
  }
}

bool is_section(const std::string& name) {
  return std::ranges::any_of(recipe_keys(),
                             [&](const auto& key) { return key.name.starts_with(name + "."); });
}

bool is_path(const std::string& name_or_path) {
  return name_or_path.find('/') != std::string::npos || name_or_path.ends_with(".toml");
}

std::string located(const std::string& name_or_path, const std::filesystem::path& folder) {
  return is_path(name_or_path) ? base::absolute_path(folder, name_or_path).string() : name_or_path;
}

std::string identity(const RecipeText& text) {
  return base::absolute_path(text.folder, std::filesystem::path(text.label).filename()).string();
}

RecipeText find_recipe(const std::string& name_or_path) {
  const std::filesystem::path path = name_or_path;
  if (is_path(name_or_path)) {
    const auto folder = path.has_parent_path() ? path.parent_path() : std::filesystem::path(".");
    return {base::read_text_file(path, kMaxRecipeBytes), name_or_path, folder};
  }
  std::vector<std::string> names;
  for (const auto& builtin : builtin_recipes()) {
    // As if it stood in ./recipes, so that "../data/x" of a shipped recipe means ./data/x.
    if (builtin.name == name_or_path)
      return {std::string(builtin.text), fmt::format("{}{}.toml", kBuiltinScheme, builtin.name), "recipes"};
    names.emplace_back(builtin.name);
  }
  fail_input("no built-in recipe '{}'{}; there are {} (a file needs a '/' or must end in .toml)",
             name_or_path, base::did_you_mean(name_or_path, names), fmt::join(names, ", "));
}

RecipeText open_base(const toml::node& node, const RecipeText& from, const std::vector<std::string>& above) {
  const auto where = position(from.label, node.source());
  const auto name = node.value_exact<std::string>();
  if (!name) fail_input("{}: base: expected text, found {}", where, kind_of(node));
  try {
    auto found = find_base(*name, from);
    if (std::ranges::find(above, identity(found)) != above.end())
      fail_input("a circle: {} -> {}", fmt::join(above, " -> "), identity(found));
    if (above.size() > kMostBases) fail_input("a chain of more than {} recipes", kMostBases);
    return found;
  } catch (const base::Error& error) {
    throw base::Error(error.kind(), fmt::format("{}: base = {}: {}", where, quote(*name), error.what()));
  }
}

}  // namespace fairway::pipeline
