// fairway sweep: a matrix of runs and what they say together.

#include <fmt/format.h>

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/pipeline/sweep/sweep.h"

namespace fairway::app {
namespace {

struct SweepArguments {
  std::string file, out;
  pipeline::SweepOptions options;
};

void sweep(SweepArguments& arguments, Context& context) {
  auto& options = arguments.options;
  const auto sweep = pipeline::load_sweep(arguments.file, options.more);
  options.out = arguments.out.empty() ? std::filesystem::path("runs") / sweep.name
                                      : std::filesystem::path(arguments.out);
  const auto result = pipeline::run_sweep(sweep, options, context.execution());
  context.print(Json::parse(result.json),
                pipeline::sweep_text(sweep, result) +
                    fmt::format("\nResults are in {}/ (sweep.html, sweep.json, a folder for each variant)\n",
                                options.out.string()));
  std::size_t failed = 0;
  for (const auto& cell : result.cells) failed += !cell.error.empty();
  if (failed > 0) context.set_exit_code(1);
}

}  // namespace

void add_sweep(CLI::App& app, Context& context, Action& action) {
  auto arguments = std::make_shared<SweepArguments>();
  auto& more = arguments->options.more;
  auto* command = add_command(app, "sweep", "Run variants of a recipe with several seeds and compare them",
                              context, action, [arguments](Context& c) { sweep(*arguments, c); });
  command->add_option("file", arguments->file, "A sweep file (docs/recipes.md)")
      ->required()
      ->type_name("FILE");
  command->add_option("--out", arguments->out, "Folder for the runs (default: runs/NAME)")
      ->type_name("FOLDER");
  command->add_flag("--resume", arguments->options.resume,
                    "Continue the sweep in --out: finished runs are skipped");
  command->add_option("--jobs", arguments->options.jobs, "Runs at a time; they share the threads")
      ->check(CLI::Range(1, 1024));
  command->add_option("--set", more.set, "KEY=VALUE for every variant")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_option("--scale", more.scale, "tiny, small, full or a part (0.2) instead of the file's")
      ->type_name("SCALE");
  command->add_option("--seeds", more.seeds, "Seeds instead of the file's, by commas")->delimiter(',');
}

}  // namespace fairway::app
