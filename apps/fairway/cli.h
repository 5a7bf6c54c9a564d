#pragma once
// What the commands share: options, output, progress, the engine.

#include <CLI/CLI.hpp>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>
#include <stop_token>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/exec/engine.h"
#include "fairway/pipeline/measure/determinism_cost.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/report/progress.h"

namespace fairway::app {

using Json = nlohmann::ordered_json;

/// Options of every command.
struct CommonOptions {
  bool json = false, quiet = false;
  int threads = 0;
  std::string isa = "auto", device = "auto";
};

/// One run of the program. Standard output carries results, standard error everything else.
class Context {
 public:
  explicit Context(std::stop_token stop) : stop_(std::move(stop)) {}
  CommonOptions options;
  std::string command_line;

  const std::stop_token& stop() const { return stop_; }
  report::ProgressPrinter& progress();
  /// Threads, device and instruction set as asked for. Throws an input error naming the option.
  exec::Engine& engine();
  /// The same for who makes engines of his own.
  exec::ExecutionOptions execution();
  /// Of a command that printed its result but has failures to tell.
  void set_exit_code(int code) { exit_code_ = code; }
  int exit_code() const { return exit_code_; }
  /// Ends the progress line, then prints the JSON with --json and the text without.
  void print(const Json& json, const std::string& text);
  /// The same for JSON that a stage made: without --json as tables.
  void print_result(const std::string& json, const std::string& before = "");

 private:
  std::stop_token stop_;
  std::unique_ptr<report::ProgressPrinter> progress_;
  std::unique_ptr<exec::Engine> engine_;
  int exit_code_ = 0;
};

/// What is left to do once the command line is understood.
using Action = std::function<void(Context&)>;

/// Adds a command with the common options; `run` becomes the action when the command is chosen.
CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& help, Context& context,
                      Action& action, Action run);

/// --set, --scale, --seed.
void add_recipe_options(CLI::App* command, std::shared_ptr<pipeline::RecipeOptions> options);

// One function for each file cmd_*.cpp.
void add_run(CLI::App& app, Context& context, Action& action);
void add_pack(CLI::App& app, Context& context, Action& action);
void add_score(CLI::App& app, Context& context, Action& action);
void add_adapt(CLI::App& app, Context& context, Action& action);
void add_verify(CLI::App& app, Context& context, Action& action);
void add_inspect(CLI::App& app, Context& context, Action& action);
void add_export(CLI::App& app, Context& context, Action& action);
void add_explain(CLI::App& app, Context& context, Action& action);
void add_bench(CLI::App& app, Context& context, Action& action);
void add_generate(CLI::App& app, Context& context, Action& action);
void add_tokenizer(CLI::App& app, Context& context, Action& action);
void add_data(CLI::App& app, Context& context, Action& action);
void add_sweep(CLI::App& app, Context& context, Action& action);
void add_recipes(CLI::App& app, Context& context, Action& action);
void add_doctor(CLI::App& app, Context& context, Action& action);

/// Throws CLI11's error again as our one line: unknown options and commands with a suggestion.
[[noreturn]] void rethrow_usage(const CLI::App& app, const CLI::ParseError& error);

/// A number in a range, both ends included. (CLI::Range lets NaN through.)
CLI::Validator real_range(double low, double high);

/// A whole number in a range, both ends included. (CLI::Range takes what no 64-bit number holds for the
/// largest.)
CLI::Validator whole_range(std::int64_t low, std::int64_t high);
constexpr std::int64_t kMaxSeed = std::int64_t{1} << 53;   ///< as a recipe's
constexpr std::int64_t kMaxCount = 1'000'000'000'000'000;  ///< of tokens or bytes

/// --skip-bad-lines.
void add_skip_bad_lines(CLI::App* command, bool& value);

/// Options that may be repeated take one value each time, in every command: what follows is the command's own
/// argument, as in `score --text a.txt MODEL`.
void take_one_value_each(CLI::App& app);

Json order_json(const pipeline::DeterminismCost& price);

/// Writes to standard output at once. Throws a failure when that cannot be done.
void write_output(std::string_view text);

/// Standard input to its end. Throws an input error beyond `max_bytes`.
std::string read_standard_input(std::size_t max_bytes);

}  // namespace fairway::app
