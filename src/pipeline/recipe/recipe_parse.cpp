#include "recipe/recipe_parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <limits>

#include "fairway/base/error.h"
#include "fairway/base/path.h"
#include "fairway/base/text.h"
#include "recipe/recipe_keys.h"

namespace fairway::pipeline {
namespace {

using base::fail_input;
constexpr std::string_view kBuiltinScheme = "builtin:";

/// Each `take` puts a TOML value in its place; false: the type is wrong.
template <class T>
bool take(const toml::node& node, T* out) {
  const auto value = node.value_exact<T>();
  if (value) *out = *value;
  return value.has_value();
}
/// Integers beyond int are clamped: `assign` names them out of range.
bool take(const toml::node& node, int* out) {
  std::int64_t wide = 0;
  if (!take(node, &wide)) return false;
  using Limits = std::numeric_limits<int>;
  *out = static_cast<int>(std::clamp<std::int64_t>(wide, Limits::min(), Limits::max()));
  return true;
}
bool take(const toml::node& node, double* out) {
  if (!node.is_number()) return false;
  *out = *node.value<double>();
  return true;
}
bool take(const toml::node& node, float* out) {
  double wide = 0;
  if (!take(node, &wide)) return false;
  constexpr double kLargest = std::numeric_limits<float>::max();  // beyond it the cast is undefined
  *out = static_cast<float>(std::abs(wide) > kLargest ? std::copysign(HUGE_VAL, wide) : wide);
  return true;
}
template <class T>
bool take(const toml::node& node, std::vector<T>* out) {
  const auto* array = node.as_array();
  if (array == nullptr) return false;
  std::vector<T> items(array->size());
  for (std::size_t i = 0; i < items.size(); ++i)
    if (!take((*array)[i], &items[i])) return false;
  *out = std::move(items);
  return true;
}
bool take(const toml::node& node, const Choice&) { return node.is_string(); }  // its name: see assign

/// A value of the file and where it stands.
struct Leaf {
  std::string name;
  const toml::node* node;
  toml::source_position key, value;
};

void collect(const toml::table& table, const std::string& prefix, std::vector<Leaf>& leaves) {
  for (const auto& [key, node] : table) {
    const auto name = prefix + std::string(key.str());
    if (node.is_table() && is_section(name)) {
      collect(*node.as_table(), name + ".", leaves);
    } else {
      leaves.push_back({name, &node, key.source().begin, node.source().begin});
    }
  }
}

/// In the file's order, so that the first error of the file is the one reported.
std::vector<Leaf> leaves_in_order(const toml::table& table) {
  std::vector<Leaf> leaves;
  collect(table, "", leaves);
  std::sort(leaves.begin(), leaves.end(), [](const Leaf& a, const Leaf& b) {
    return std::pair(a.key.line, a.key.column) < std::pair(b.key.line, b.key.column);
  });
  return leaves;
}

std::string encoding_error(const RecipeKey& key, const std::string& text) {
  const auto at = base::invalid_utf8_at(text);
  return at ? fmt::format("{}: not valid UTF-8 at byte {}; give the text in UTF-8", key.name, *at) : "";
}

}  // namespace

void make_absolute(const RecipeKey& key, Recipe& recipe, const std::filesystem::path& folder) {
  if (folder.empty()) return;
  auto fix = [&](std::string& path) {
    if (!path.empty() && path != "-" && !path.starts_with(kBuiltinScheme))
      path = base::absolute_path(folder, path).string();
  };
  for_each_text(key, recipe, fix);
}

void assign(const RecipeKey& key, const toml::node& node, Recipe& recipe, const std::string& where) {
  const auto place = key.value(recipe);
  if (!std::visit([&](auto v) { return take(node, v); }, place)) {
    const bool wrong_item = node.is_array() && type_name(key).starts_with("list");
    fail_input("{}: {}: expected {}, found {}", where, key.name, type_name(key),
               wrong_item ? "a list with other things in it" : kind_of(node));
  }
  if (const auto* choice = std::get_if<Choice>(&place)) {
    const auto name = *node.value<std::string>();
    if (auto error = encoding_error(key, name); !error.empty()) fail_input("{}: {}", where, error);
    if (!choice->set(choice->place, name))
      fail_input("{}: {} = {}: must be one of {}{}", where, key.name, quote(name), allowed_values(key),
                 base::did_you_mean(name, key.choices));
  }
  if (std::holds_alternative<int*>(place) && *node.value<std::int64_t>() != *std::get<int*>(place))
    fail_input("{}: {} = {}: must be {}", where, key.name, *node.value<std::int64_t>(), allowed_values(key));
  if (auto error = range_error(key, recipe); !error.empty()) fail_input("{}: {}", where, error);
}

namespace {

using Positions = std::map<std::string, std::string>;  // key -> "FILE:LINE:COLUMN"

/// Puts the place of the first key that the error names before it.
[[noreturn]] void rethrow_located(const base::Error& error, const Positions& positions,
                                  const std::string& label) {
  const std::string message = error.what();
  std::size_t first = std::string::npos;
  std::string where = label;
  for (const auto& [key, position] : positions) {
    const auto at = message.find(key);
    if (at == std::string::npos || at >= first) continue;
    const auto after = at + key.size();
    if (after < message.size() &&
        (std::isalnum(static_cast<unsigned char>(message[after])) || message[after] == '_'))
      continue;
    first = at;
    where = position;
  }
  throw base::Error(error.kind(), fmt::format("{}: {}", where, message));
}

void read_leaves(const toml::table& table, const std::string& label, const std::filesystem::path& folder,
                 Recipe& recipe, Positions& positions) {
  for (const auto& leaf : leaves_in_order(table)) {
    if (leaf.name == "base") continue;  // read_text has begun with it
    const auto* key = find_key(leaf.name);
    if (key == nullptr && is_section(leaf.name)) {
      fail_input("{}:{}:{}: {}: expected a table, found {}", label, leaf.key.line, leaf.key.column, leaf.name,
                 kind_of(*leaf.node));
    }
    if (key == nullptr) {
      fail_input("{}:{}:{}: unknown {} '{}'{}", label, leaf.key.line, leaf.key.column,
                 leaf.node->is_table() ? "table" : "key", leaf.name, suggest_key(leaf.name));
    }
    const auto where = fmt::format("{}:{}:{}", label, leaf.value.line, leaf.value.column);
    assign(*key, *leaf.node, recipe, where);
    if (key->is_path) make_absolute(*key, recipe, folder);
    positions[key->name] = where;
  }
}

/// Reads a text over what its base holds, and so on.
void read_text(const RecipeText& from, Recipe& recipe, Positions& positions, std::vector<std::string> above) {
  if (from.text.size() > kMaxRecipeBytes)
    fail_input("{}: a recipe of {} bytes (at most {})", from.label, from.text.size(), kMaxRecipeBytes);
  const auto table = parse_toml(from.text, from.label);
  if (const auto* node = table.get("base")) {
    above.push_back(identity(from));
    read_text(open_base(*node, from, above), recipe, positions, above);
    recipe.name.clear();  // these say what a recipe is
    recipe.description.clear();
  }
  read_leaves(table, from.label, from.folder, recipe, positions);
}

/// A recipe is kept as TOML and its names go into JSON, and both are UTF-8: what is not must be known before
/// the work, not when its results are to be read. `positions` knows where the value came from.
void check_utf8(const Recipe& recipe, const Positions& positions) {
  for (const auto& key : recipe_keys()) {
    const auto check = [&](const std::string& text) {
      if (!base::invalid_utf8_at(text)) return;
      const auto where = positions.find(key.name);
      fail_input("{}{} = \"{}\": not UTF-8; {}", where == positions.end() ? "" : where->second + ": ",
                 key.name, text, key.is_path ? "rename the file or folder" : "use another name or text");
    };
    for_each_text(key, const_cast<Recipe&>(recipe), check);  // nothing is written
  }
}

/// Is it within the key's range?
template <class T>
bool fits(const RecipeKey& key, T* v) {
  if constexpr (std::is_same_v<T, std::int64_t>) {  // as whole numbers: beyond 2^53 neighbours are one double
    return *v >= static_cast<std::int64_t>(key.low) && *v <= static_cast<std::int64_t>(key.high);
  } else if constexpr (std::is_arithmetic_v<T> && !std::is_same_v<T, bool>) {
    return *v >= key.low && *v <= key.high;
  } else {
    return true;
  }
}
template <class T>
bool fits(const RecipeKey& key, std::vector<T>* list) {
  return std::ranges::all_of(*list, [&](auto& item) { return fits(key, &item); });
}
bool fits(const RecipeKey&, const Choice&) { return true; }

std::string section_of(const std::string& name) { return name.substr(0, name.find('.')); }
std::string last_part(const std::string& name) { return name.substr(name.rfind('.') + 1); }

}  // namespace

const RecipeKey* find_key(std::string_view name) {
  const auto& keys = recipe_keys();
  const auto found =
      std::find_if(keys.begin(), keys.end(), [&](const auto& key) { return key.name == name; });
  return found == keys.end() ? nullptr : &*found;
}

std::string suggest_key(const std::string& name) {
  std::vector<std::string> names, sections;
  for (const auto& key : recipe_keys()) {
    if (last_part(key.name) == last_part(name)) return fmt::format(" (did you mean '{}'?)", key.name);
    names.push_back(key.name);
    if (key.name.find('.') != std::string::npos &&
        (sections.empty() || sections.back() != section_of(key.name)))
      sections.push_back(section_of(key.name));
  }
  if (name.find('.') == std::string::npos) {  // a table, a key at the top, or a key whose table was forgotten
    if (auto table = base::closest_match(name, sections); !table.empty())
      return fmt::format(" (did you mean '[{}]'?)", table);
    std::vector<std::string> parts;
    std::transform(names.begin(), names.end(), std::back_inserter(parts), last_part);
    const auto part = base::closest_match(name, parts);
    const auto at = std::find(parts.begin(), parts.end(), part);
    return part.empty()
               ? ""
               : fmt::format(" (did you mean '{}'?)", names[static_cast<std::size_t>(at - parts.begin())]);
  }
  std::vector<std::string> parts;
  for (const auto& known : names)
    if (known.starts_with(section_of(name) + ".")) parts.push_back(last_part(known));
  if (auto part = base::closest_match(last_part(name), parts); !part.empty())
    return fmt::format(" (did you mean '{}.{}'?)", section_of(name), part);
  return base::did_you_mean(name, names);
}

std::string range_error(const RecipeKey& key, const Recipe& recipe) {
  // The accessor wants a mutable recipe; nothing is written.
  const auto value = key.value(const_cast<Recipe&>(recipe));
  if (const auto* text = std::get_if<std::string*>(&value); text && !key.is_path)
    return encoding_error(key, **text);
  if (std::visit([&](auto v) { return fits(key, v); }, value)) return "";
  return fmt::format("{} = {}: must be {}", key.name, toml_value(key, recipe), allowed_values(key));
}

void apply_override(Recipe& recipe, const std::string& assignment, std::string& key_name) {
  const auto where = "--set " + assignment;
  const auto equals = assignment.find('=');
  if (equals == std::string::npos || equals == 0)
    fail_input("{}: expected KEY=VALUE, for example train.steps=100", where);
  key_name = assignment.substr(0, equals);
  const auto raw = assignment.substr(equals + 1);
  const auto* key = find_key(key_name);
  if (key == nullptr) fail_input("{}: unknown key '{}'{}", where, key_name, suggest_key(key_name));

  const auto value = key->value(recipe);
  const bool in_quotes = !raw.empty() && (raw.front() == '"' || raw.front() == '\'' || raw.front() == '[');
  const bool is_text = std::holds_alternative<std::string*>(value) || std::holds_alternative<Choice>(value);
  if (is_text && !in_quotes) {
    assign(*key, toml::value<std::string>(raw), recipe, where);
  } else if (std::holds_alternative<std::vector<std::string>*>(value) && !in_quotes) {
    assign(*key, toml::array(raw), recipe, where);
  } else {
    toml::table table;
    try {
      table = toml::parse("value = " + raw);
    } catch (const toml::parse_error&) {
      fail_input("{}: {}: expected {}, found '{}'", where, key->name, type_name(*key), raw);
    }
    if (table.size() != 1) fail_input("{}: one value expected", where);
    assign(*key, *table.get("value"), recipe, where);
  }
  if (key->is_path) make_absolute(*key, recipe, ".");
}

LoadedRecipe parse_recipe(std::string_view text, const std::string& label,
                          const std::filesystem::path& folder, const RecipeOptions& options) {
  LoadedRecipe loaded;
  loaded.source = label;
  Positions positions;
  read_text({std::string(text), label, folder}, loaded.recipe, positions, {});
  auto& recipe = loaded.recipe;
  if (recipe.name.empty()) recipe.name = std::filesystem::path(label).stem().string();
  // What is inside a model file was packed already, useful or not.
  const bool for_a_run = !folder.empty() || !options.set.empty();
  const auto check = [&] {
    validate(recipe);
    if (for_a_run) validate_rules(recipe);
  };
  try {  // before scaling, so that a mistake of the file is told in the file's numbers
    check();
  } catch (const base::Error& error) {
    // A --set may be what makes the file whole; then only the end result counts.
    if (options.set.empty()) rethrow_located(error, positions, label);
  }
  apply_scale(loaded, options.scale);
  for (const auto& assignment : options.set) {
    std::string key;
    apply_override(recipe, assignment, key);
    positions[key] = "--set " + assignment;
    loaded.comments[key] = "--set";
  }
  if (options.seed) {
    recipe.seed = *options.seed;
    if (auto error = range_error(*find_key("seed"), recipe); !error.empty()) fail_input("--seed: {}", error);
  }
  check_utf8(recipe, positions);
  try {
    check();
  } catch (const base::Error& error) {
    rethrow_located(error, positions, label);
  }
  return loaded;
}

LoadedRecipe load_recipe(const std::string& name_or_path, const RecipeOptions& options) {
  const auto found = find_recipe(name_or_path);
  return parse_recipe(found.text, found.label, found.folder, options);
}

}  // namespace fairway::pipeline
