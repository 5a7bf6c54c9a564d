// fairway recipes

#include <fmt/format.h>

#include "cli.h"
#include "fairway/pipeline/recipe/recipe_schema.h"
#include "fairway/report/table.h"

namespace fairway::app {
namespace {

struct RecipesArguments {
  std::string name;
  bool keys = false;
  std::shared_ptr<pipeline::RecipeOptions> options = std::make_shared<pipeline::RecipeOptions>();
};

void list_recipes(Context& context) {
  report::Table table{"", {{"recipe"}, {"what"}}, {}, 0};
  Json json = Json::array();
  for (const auto& builtin : pipeline::builtin_recipes()) {
    const auto recipe = pipeline::load_recipe(std::string(builtin.name)).recipe;
    table.add({recipe.name, recipe.description});
    json.push_back({{"name", recipe.name}, {"description", recipe.description}});
  }
  context.print(
      json,
      report::to_text(table) +
          "\nfairway recipes NAME shows one with every value; fairway recipes --keys explains the keys.\n");
}

void list_keys(Context& context) {
  Json json = Json::array();
  const pipeline::Recipe defaults;
  for (const auto& key : pipeline::recipe_keys())
    json.push_back({{"key", key.name},
                    {"type", pipeline::type_name(key)},
                    {"default", pipeline::toml_value(key, defaults)},
                    {"allowed", pipeline::allowed_values(key)},
                    {"counted_in_steps", key.counted_in_steps},
                    {"help", key.help}});
  context.print(json, pipeline::recipe_keys_markdown());
}

void show(const RecipesArguments& arguments, Context& context) {
  if (arguments.keys) return list_keys(context);
  if (arguments.name.empty()) return list_recipes(context);
  const auto loaded = pipeline::load_recipe(arguments.name, *arguments.options);
  Json values;
  for (const auto& key : pipeline::recipe_keys()) values[key.name] = pipeline::toml_value(key, loaded.recipe);
  context.print({{"source", loaded.source},
                 {"scale", loaded.scale},
                 {"toml", pipeline::to_toml(loaded)},
                 {"values", values}},
                pipeline::to_toml(loaded));
}

}  // namespace

void add_recipes(CLI::App& app, Context& context, Action& action) {
  auto arguments = std::make_shared<RecipesArguments>();
  auto* command = add_command(app, "recipes", "List the built-in recipes, or show one with every value",
                              context, action, [arguments](Context& c) { show(*arguments, c); });
  command->add_option("recipe", arguments->name, "A recipe file or the name of a built-in recipe")
      ->type_name("RECIPE");
  command->add_flag("--keys", arguments->keys, "Explain every key");
  add_recipe_options(command, arguments->options);
}

}  // namespace fairway::app
