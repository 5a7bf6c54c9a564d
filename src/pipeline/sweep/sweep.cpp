// Sweep files.

#include "fairway/pipeline/sweep/sweep.h"

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/text.h"
#include "recipe/recipe_parse.h"

#include <fmt/format.h>

#include <algorithm>
#include <map>
#include <set>
#include <sstream>

namespace fairway::pipeline {
namespace {

using base::fail_input;
namespace fs = std::filesystem;

constexpr std::uint64_t kMaxSweepBytes = 1 << 20;
constexpr std::size_t kMaxCells = 10'000;

/// Where things stand in the file, for errors.
class File {
 public:
  explicit File(std::string label) : label_(std::move(label)) {}
  std::string at(const toml::source_region& region) const { return position(label_, region); }
  template <class T>
  T take(const toml::key& key, const toml::node& node, std::string_view expected) const {
    const auto value = node.value_exact<T>();
    if (!value) fail_input("{}: {}: expected {}", at(node.source()), key.str(), expected);
    return *value;
  }
  std::string text(const toml::key& key, const toml::node& node) const {
    return take<std::string>(key, node, "text");
  }
  const std::string& label() const { return label_; }

 private:
  std::string label_;
};

/// A variant's value as --set takes it, its paths made absolute.
std::string toml_text(const RecipeKey& key, const toml::node& node, const File& file,
                      const fs::path& folder) {
  if (key.is_path) {
    Recipe any;
    assign(key, node, any, file.at(node.source()));
    make_absolute(key, any, folder.empty() ? "." : folder);
    return toml_value(key, any);
  }
  std::ostringstream out;
  node.visit([&](const auto& n) { out << n; });
  return out.str();
}

/// The recipe keys of a variant in its own tables: [variant.train] steps = 5, or train.steps = 5.
void read_keys(const toml::table& table, const std::string& prefix, const File& file, const fs::path& folder,
               std::vector<std::string>& set) {
  for (const auto& [name, node] : table) {
    const auto full = prefix + std::string(name.str());
    if (prefix.empty() && (full == "name" || full == "note" || full == "metric")) continue;
    if (const auto* key = find_key(full); key && full != "seed" && full != "description") {
      set.push_back(fmt::format("{}={}", full, toml_text(*key, node, file, folder)));
    } else if (node.is_table() && is_section(full)) {
      read_keys(*node.as_table(), full + ".", file, folder, set);
    } else {
      fail_input("{}: unknown key '{}' in a variant{}", file.at(name.source()), full, suggest_key(full));
    }
  }
}

void check_name(const std::string& name, const std::string& where) {
  const bool plain = std::all_of(name.begin(), name.end(), [](unsigned char c) {
    return std::isalnum(c) || c == '_' || c == '-' || c == '.';
  });
  if (name.empty() || !plain || name.front() == '.')
    fail_input("{}: variant name '{}': letters, digits, '_', '-' and '.', as it names a folder", where, name);
}

SweepVariant read_variant(const toml::node& node, const File& file, const fs::path& folder) {
  const auto* table = node.as_table();
  if (!table) fail_input("{}: variant: expected tables [[variant]]", file.at(node.source()));
  SweepVariant variant;
  for (const auto& [key, value] : *table) {
    if (key.str() == "name") variant.name = file.text(key, value);
    if (key.str() == "note") variant.note = file.text(key, value);
    if (key.str() == "metric") variant.metric = file.text(key, value);
  }
  check_name(variant.name, file.at(table->source()));
  read_keys(*table, "", file, folder, variant.set);
  return variant;
}

template <class F>
void for_each_item(const toml::key& key, const toml::node& node, const File& file, const char* expected,
                   F&& body) {
  const auto* array = node.as_array();
  if (!array) fail_input("{}: {}: expected {}", file.at(node.source()), key.str(), expected);
  for (const auto& item : *array) body(item);
}

void read_top(Sweep& sweep, const toml::table& table, const File& file, const fs::path& folder) {
  const std::vector<std::string> known = {"name",   "description", "base",  "scale",
                                          "metric", "baseline",    "seeds", "variant"};
  static const std::map<std::string, std::string Sweep::*> texts = {
      {"name", &Sweep::name},   {"description", &Sweep::description}, {"base", &Sweep::base},
      {"scale", &Sweep::scale}, {"metric", &Sweep::metric},           {"baseline", &Sweep::baseline}};
  for (const auto& [key, node] : table) {
    const std::string name(key.str());
    if (const auto found = texts.find(name); found != texts.end()) {
      sweep.*found->second = file.text(key, node);
    } else if (name == "seeds") {
      for_each_item(key, node, file, "a list of integers", [&, &key = key](const toml::node& item) {
        sweep.seeds.push_back(file.take<std::int64_t>(key, item, "a list of integers"));
      });
    } else if (name == "variant") {
      for_each_item(key, node, file, "tables [[variant]]", [&](const toml::node& item) {
        sweep.variants.push_back(read_variant(item, file, folder));
      });
    } else {
      fail_input("{}: unknown key '{}' of a sweep{}", file.at(key.source()), name,
                 base::did_you_mean(name, known));
    }
  }
  sweep.base = located(sweep.base, folder);
}

void check(Sweep& sweep, const SweepOverrides& more) {
  const auto& label = sweep.source;
  if (sweep.variants.empty()) fail_input("{}: the sweep is empty: add a [[variant]]", label);
  if (sweep.seeds.empty()) fail_input("{}: the sweep is empty: seeds = [] names no seed", label);
  if (sweep.variants.size() * sweep.seeds.size() > kMaxCells)
    fail_input("{}: {} runs; a sweep has at most {}", label, sweep.variants.size() * sweep.seeds.size(),
               kMaxCells);
  std::set<std::string> names;
  for (const auto& v : sweep.variants)
    if (!names.insert(v.name).second) fail_input("{}: two variants '{}'", label, v.name);
  std::set<std::int64_t> seeds;
  for (const auto seed : sweep.seeds)
    if (!seeds.insert(seed).second) fail_input("{}: seed {} twice", label, seed);
  if (sweep.baseline.empty()) sweep.baseline = sweep.variants.front().name;
  if (!names.contains(sweep.baseline))
    fail_input("{}: baseline = \"{}\": no variant of that name{}", label, sweep.baseline,
               base::did_you_mean(sweep.baseline, std::vector<std::string>(names.begin(), names.end())));
  for (const auto& v : sweep.variants) {
    LoadedRecipe loaded;
    for (const auto seed : sweep.seeds) loaded = cell_recipe(sweep, v, seed, more);
    if (sweep.metric.empty())
      sweep.metric = loaded.recipe.score.stride > 0 ? "score.sliding.loss" : "score.plain.loss";
  }
}

}  // namespace

LoadedRecipe cell_recipe(const Sweep& sweep, const SweepVariant& variant, std::int64_t seed,
                         const SweepOverrides& more) {
  const auto where = fmt::format("{}: variant '{}'", sweep.source, variant.name);
  try {
    // The keys first, unscaled: what a variant counts in steps shrinks with the rest.
    const auto full = load_recipe(sweep.base, {.set = variant.set});
    auto cell = parse_recipe(to_toml(full.recipe), where, {},
                             {.set = more.set, .scale = more.scale.value_or(sweep.scale), .seed = seed});
    return cell;
  } catch (const base::Error& error) {
    const std::string message = error.what();
    throw base::Error(error.kind(),
                      message.starts_with(where) ? message : fmt::format("{}: {}", where, message));
  }
}

Sweep parse_sweep(std::string_view text, const std::string& label, const fs::path& folder,
                  const SweepOverrides& more) {
  Sweep sweep;
  sweep.source = label;
  sweep.name = fs::path(label).stem().string();
  const auto table = parse_toml(text, label);
  if (!table.contains("seeds")) sweep.seeds = {1337};
  read_top(sweep, table, File(label), folder);
  if (!more.seeds.empty()) sweep.seeds = more.seeds;
  check(sweep, more);
  return sweep;
}

Sweep load_sweep(const fs::path& path, const SweepOverrides& more) {
  return parse_sweep(base::read_text_file(path, kMaxSweepBytes), path.string(), path.parent_path(), more);
}

}  // namespace fairway::pipeline
