// Keys, values and whole recipes as text.

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <algorithm>
#include <filesystem>

#include "fairway/base/text.h"
#include "recipe/recipe_keys.h"

namespace fairway::pipeline {
namespace {

struct ToToml {
  std::string operator()(const Choice& v) const { return quote(v.name(v.place)); }
  std::string operator()(std::string* v) const { return quote(*v); }
  std::string operator()(std::vector<std::string>* v) const {
    std::vector<std::string> items;
    std::transform(v->begin(), v->end(), std::back_inserter(items), quote);
    return fmt::format("[{}]", fmt::join(items, ", "));
  }
  template <class T>
  std::string operator()(std::vector<T>* v) const {
    return fmt::format("[{}]", fmt::join(*v, ", "));
  }
  template <class T>
  std::string operator()(T* v) const {  // of a number the shortest digits that give it back
    return fmt::format("{}", *v);
  }
};

struct TypeName {
  std::string operator()(const Choice&) const { return "text"; }
  std::string operator()(bool*) const { return "true or false"; }
  template <class T>
  std::string operator()(T*) const {
    return std::is_integral_v<T> ? "integer" : std::is_floating_point_v<T> ? "number" : "text";
  }
  template <class T>
  std::string operator()(std::vector<T>*) const {
    return "list of " + (*this)(static_cast<T*>(nullptr)) + "s";
  }
};

}  // namespace

std::string quote(std::string_view value) {
  std::string out = "\"";
  for (unsigned char c : value) {
    switch (c) {
      case '"':
        out += "\\\"";
        break;
      case '\\':
        out += "\\\\";
        break;
      case '\n':
        out += "\\n";
        break;
      case '\r':
        out += "\\r";
        break;
      case '\t':
        out += "\\t";
        break;
      default:
        if (c < 0x20 || c == 0x7f) {
          out += fmt::format("\\u{:04X}", c);
        } else {
          out += static_cast<char>(c);
        }
    }
  }
  return out + '"';
}

std::string type_name(const RecipeKey& key) {
  Recipe any;
  return std::visit(TypeName{}, key.value(any));
}

std::string allowed_values(const RecipeKey& key) {
  if (!key.choices.empty()) return fmt::format("{}", fmt::join(key.choices, ", "));
  if (key.low == key.high) return "";  // no number
  const auto show = [](double v) {
    return v == static_cast<std::int64_t>(v) && v < 1e16 ? fmt::format("{}", static_cast<std::int64_t>(v))
                                                         : fmt::format("{}", v);
  };
  return fmt::format("{} to {}", show(key.low), show(key.high));
}

std::string toml_value(const RecipeKey& key, const Recipe& recipe) {
  // The accessor wants a mutable recipe; nothing is written.
  return std::visit(ToToml{}, key.value(const_cast<Recipe&>(recipe)));
}

std::string to_toml(const Recipe& recipe, const std::map<std::string, std::string>& comments) {
  std::string out, section;
  for (const auto& key : recipe_keys()) {
    const auto dot = key.name.find('.');
    const auto table = dot == std::string::npos ? std::string() : key.name.substr(0, dot);
    if (table != section) out += fmt::format("\n[{}]\n", table);
    section = table;
    out += fmt::format("{} = {}", dot == std::string::npos ? key.name : key.name.substr(dot + 1),
                       toml_value(key, recipe));
    if (auto comment = comments.find(key.name); comment != comments.end()) out += "  # " + comment->second;
    out += '\n';
  }
  return out;
}

std::string to_toml(const LoadedRecipe& loaded) {
  std::string head = fmt::format("# Resolved from {}", base::printable(loaded.source));
  for (char& c : head)
    if (static_cast<unsigned char>(c) < 0x20) c = '?';  // a file name must not end the comment
  if (loaded.scale != "full") head += fmt::format(" with --scale {}", loaded.scale);
  return head + ". Every value the run used.\n" + to_toml(loaded.recipe, loaded.comments);
}

std::string to_portable_toml(const Recipe& recipe) {
  Recipe portable = recipe;
  auto shorten = [](std::string& path) {
    if (!path.starts_with("builtin:")) path = std::filesystem::path(path).filename().string();
  };
  for (const auto& key : recipe_keys())
    if (key.is_path) for_each_text(key, portable, shorten);
  return to_toml(portable);
}

bool Recipe::operator==(const Recipe& other) const { return to_toml(*this) == to_toml(other); }

std::vector<std::string> changed_keys(const Recipe& a, const Recipe& b) {
  std::vector<std::string> names;
  for (const auto& key : recipe_keys())
    if (toml_value(key, a) != toml_value(key, b)) names.push_back(key.name);
  return names;
}

std::string recipe_keys_markdown() {
  std::string out, section = "?";
  const Recipe defaults;
  for (const auto& key : recipe_keys()) {
    const auto dot = key.name.find('.');
    const auto table = dot == std::string::npos ? std::string() : key.name.substr(0, dot);
    if (table != section) {
      section = table;
      out += fmt::format(
          "{}### {}\n\n| key | type | default | allowed | meaning |\n| --- | --- | --- | --- | --- |\n",
          out.empty() ? "" : "\n", table.empty() ? "At the top" : "`[" + table + "]`");
    }
    out += fmt::format("| `{}`{} | {} | `{}` | {} | {} |\n",
                       dot == std::string::npos ? key.name : key.name.substr(dot + 1),
                       key.counted_in_steps ? " ⏱" : "", type_name(key), toml_value(key, defaults),
                       allowed_values(key), key.help);
  }
  return out;
}

}  // namespace fairway::pipeline
