#include <fmt/format.h>

#include <filesystem>

#include "fairway/base/text.h"
#include "recipe/recipe_parse.h"

namespace fairway::pipeline {

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
  for (const auto& key : recipe_keys()) {
    if (!key.is_path) continue;
    const auto value = key.value(portable);
    if (auto* one = std::get_if<std::string*>(&value)) shorten(**one);
    if (auto* many = std::get_if<std::vector<std::string>*>(&value))
      for (auto& path : **many) shorten(path);
  }
  return to_toml(portable);
}

std::vector<std::string> changed_keys(const Recipe& a, const Recipe& b) {
  std::vector<std::string> names;
  for (const auto& key : recipe_keys())
    if (toml_value(key, a) != toml_value(key, b)) names.push_back(key.name);
  return names;
}

}  // namespace fairway::pipeline
