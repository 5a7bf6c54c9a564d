// fairway run, fairway train

#include <fmt/format.h>

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/base/path.h"
#include "fairway/pipeline/run/run.h"

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
  for (int n = 2; base::exists(folder); ++n) folder = fmt::format("{}-{}", first.string(), n);
  return folder;
}

/// Is the folder of a run given in the recipe's place?
bool names_folder(const RunArguments& arguments) {
  const auto& given = arguments.recipe;
  // A plain word is a recipe inside the program, unless there is nothing else that could be the folder.
  const bool may_be = given.find('/') != std::string::npos || (arguments.resume && arguments.out.empty());
  return !given.empty() && may_be && base::is_folder(given);
}

std::string run_folder(const RunArguments& arguments) {
  if (!names_folder(arguments)) return arguments.out;
  const auto& given = arguments.recipe;
  if (!arguments.resume)
    base::fail_input("{}: a folder, not a recipe; --resume continues the run in it", given);
  if (!arguments.out.empty() && base::file_id(arguments.out) != base::file_id(given))
    base::fail_input("{}, --out {}: two folders; give the one whose run is to continue", given,
                     arguments.out);
  return given;
}

/// What is given; else that of the run that is repeated or continued; else the demo.
std::string recipe_name(const RunArguments& arguments, const std::filesystem::path& out) {
  if (!arguments.recipe.empty() && !names_folder(arguments)) return arguments.recipe;
  if (!arguments.replay.empty()) return (std::filesystem::path(arguments.replay) / "recipe.toml").string();
  const auto own = (out / "recipe.toml").string();
  const bool has_own = arguments.resume && !out.empty() && base::exists(own);
  if (names_folder(arguments)) {
    if (!has_own) base::fail_input("{}: no recipe.toml; it is not the folder of a run", out.string());
    if (arguments.options->scale != pipeline::RecipeOptions{}.scale)
      base::fail_input("--scale {}: the recipe in {} is scaled already", arguments.options->scale,
                       out.string());
    return own;
  }
  // A scale is one of the recipe that the run began with.
  return has_own && arguments.options->scale == pipeline::RecipeOptions{}.scale ? own : "demo";
}

void run(const RunArguments& arguments, Context& context) {
  pipeline::RunOptions options;
  options.out = run_folder(arguments);
  if (arguments.resume && options.out.empty()) base::fail_input("--resume: say which run with --out FOLDER");
  auto recipe_options = *arguments.options;
  // From here, not from the recipe's folder, as a path on the command line is meant.
  if (!arguments.init.empty())
    recipe_options.set.push_back("train.init=" + base::absolute_path(".", arguments.init).string());
  if (!arguments.replay.empty()) options.replay = arguments.replay;
  options.recipe = pipeline::load_recipe(recipe_name(arguments, options.out), recipe_options);
  if (options.out.empty()) options.out = free_folder(options.recipe.recipe.name);
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
                   "A recipe file or the name of a built-in recipe (default: demo); with --resume also the "
                   "folder of a run, which brings its own")
      ->type_name("RECIPE");
  command->add_option("--out", arguments->out, "Folder for the results (default: runs/NAME)")
      ->type_name("FOLDER");
  command->add_option("--init", arguments->init, "Start from these weights instead of fresh ones")
      ->type_name("FILE.safetensors");
  command->add_flag("--resume", arguments->resume,
                    "Continue the run in --out, by default with the recipe it holds");
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
