// fairway run, fairway train

#include <fmt/format.h>

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/pipeline/run.h"

namespace fairway::app {
namespace {

struct RunArguments {
  std::string recipe, out, init, replay;
  bool resume = false, train_only = false;
  std::shared_ptr<pipeline::RecipeOptions> options = std::make_shared<pipeline::RecipeOptions>();
};

/// runs/NAME, or the first of runs/NAME-2, ... that does not exist yet.
std::filesystem::path free_folder(const std::string& name) {
  const std::filesystem::path first = std::filesystem::path("runs") / name;
  auto folder = first;
  for (int n = 2; std::filesystem::exists(folder); ++n) folder = fmt::format("{}-{}", first.string(), n);
  return folder;
}

void run(const RunArguments& arguments, Context& context) {
  pipeline::RunOptions options;
  auto recipe_options = *arguments.options;
  // From here, not from the recipe's folder, as a path on the command line is meant.
  if (!arguments.init.empty())
    recipe_options.set.push_back("train.init=" + std::filesystem::absolute(arguments.init).string());
  auto recipe = arguments.recipe.empty() ? std::string("demo") : arguments.recipe;
  if (!arguments.replay.empty()) {
    options.replay = arguments.replay;
    if (arguments.recipe.empty()) recipe = (*options.replay / "recipe.toml").string();
  }
  options.recipe = pipeline::load_recipe(recipe, recipe_options);
  if (arguments.resume && arguments.out.empty())
    base::fail_input("--resume: say which run with --out FOLDER");
  options.out =
      arguments.out.empty() ? free_folder(options.recipe.recipe.name) : std::filesystem::path(arguments.out);
  options.resume = arguments.resume;
  options.train_only = arguments.train_only;
  options.build = context.command_line;
  const auto result = pipeline::run(options, context.engine());
  if (context.options.json) return context.print_result(result.json);
  context.print_result(result.json, result.already_finished ? "This run is finished already.\n\n" : "");
  context.print({}, fmt::format("\nResults are in {}/ ({})\n", options.out.string(),
                                arguments.train_only ? "checkpoint.fwck, metrics.jsonl"
                                                     : "report.html, result.json, model.fairway"));
}

void add(CLI::App& app, Context& context, Action& action, const char* name, const char* help,
         bool train_only) {
  auto arguments = std::make_shared<RunArguments>();
  arguments->train_only = train_only;
  auto* command =
      add_command(app, name, help, context, action, [arguments](Context& c) { run(*arguments, c); });
  command
      ->add_option("recipe", arguments->recipe,
                   "A recipe file or the name of a built-in recipe (default: demo)")
      ->type_name("RECIPE");
  command->add_option("--out", arguments->out, "Folder for the results (default: runs/NAME)")
      ->type_name("FOLDER");
  command->add_option("--init", arguments->init, "Start from these weights instead of fresh ones")
      ->type_name("FILE.safetensors");
  command->add_flag("--resume", arguments->resume, "Continue the run in --out");
  command
      ->add_option(
          "--replay", arguments->replay,
          "Repeat this finished run step by step, to the same bytes whatever the clock says (its recipe, "
          "when none is given)")
      ->type_name("RUN");
  add_recipe_options(command, arguments->options);
}

}  // namespace

void add_run(CLI::App& app, Context& context, Action& action) {
  add(app, context, action, "run", "Train, average, quantise, pack, score and report a recipe", false);
  add(app, context, action, "train", "Only train a recipe: ends with a checkpoint", true);
}

}  // namespace fairway::app
