#include "recipe/builtin_files.h"

#include <algorithm>

#include "fairway/base/error.h"
#include "fairway/base/text.h"

namespace fairway::pipeline {

const std::vector<Builtin>& builtin_recipes() {
  static const std::vector<Builtin> recipes = [] {
    constexpr std::string_view kExtension = ".toml";
    std::vector<Builtin> found;
    for (auto file : builtin_files()) {
      if (!file.name.ends_with(kExtension)) continue;
      file.name.remove_suffix(kExtension.size());
      found.push_back(file);
    }
    // The demo first: it is what a newcomer should see.
    std::stable_partition(found.begin(), found.end(), [](const Builtin& b) { return b.name == "demo"; });
    return found;
  }();
  return recipes;
}

std::optional<std::string_view> builtin_text(std::string_view path) {
  constexpr std::string_view kScheme = "builtin:";
  if (!path.starts_with(kScheme)) return std::nullopt;
  const auto name = path.substr(kScheme.size());
  std::vector<std::string> names;
  for (const auto& file : builtin_files()) {
    if (file.name == name) return file.text;
    if (!file.name.ends_with(".toml")) names.emplace_back(file.name);
  }
  base::fail_input("builtin:{}: no such text inside the program{}", name, base::did_you_mean(name, names));
}

}  // namespace fairway::pipeline
