#include "cli.h"
#include "fairway/report/metrics.h"

#include <fmt/format.h>

#include <cerrno>
#include <charconv>
#include <cstdio>
#include <iostream>
#include <system_error>

#include "fairway/base/error.h"
#include "fairway/base/text.h"
#include "fairway/ops/cuda.h"
#include "fairway/report/result.h"
#include "fairway/tensor/cuda.h"

namespace fairway::app {
namespace {

using base::fail_input;

std::optional<base::Isa> chosen_isa(const std::string& name) {
  if (name == "auto") return std::nullopt;
  const std::vector<std::string> names = {"auto", "scalar", "avx2", "avx512", "avx512_bf16"};
  const auto isa = base::parse_isa(name);
  if (!isa)
    fail_input("--isa {}: must be auto, scalar, avx2, avx512 or avx512_bf16{}", name,
               base::did_you_mean(name, names));
  return isa;
}

tensor::Device chosen_device(const std::string& name) {
  if (name == "auto") {  // the first GPU that can be used
    if (!ops::cuda::gemm_unavailable_reason().empty()) return {};
    for (const auto& gpu : tensor::cuda_devices())
      if (gpu.problem().empty()) return {tensor::DeviceKind::cuda, gpu.index};
    return {};
  }
  const auto device = tensor::parse_device(name);
  if (!device) fail_input("--device {}: must be auto, cpu, cuda or cuda:N", name);
  if (!device->is_cuda()) return *device;
  const auto found = tensor::cuda_devices();
  if (found.empty())
    fail_input("--device {}: no GPU can be used ({}); --device cpu works, `fairway doctor` says more", name,
               tensor::cuda_unavailable_reason());
  if (device->index >= static_cast<int>(found.size()))
    fail_input("--device {}: this machine has {} GPU(s), numbered from 0", name, found.size());
  return *device;
}

const CLI::App* chosen_command(const CLI::App* app) {
  for (const auto* sub : app->get_subcommands()) return chosen_command(sub);
  return app;
}

std::string path_of(const CLI::App* command) {
  const auto* parent = command->get_parent();
  return parent == nullptr ? command->get_name() : path_of(parent) + " " + command->get_name();
}

std::vector<std::string> option_names(const CLI::App* command) {
  std::vector<std::string> names;
  for (const auto* option : command->get_options())
    for (const auto& name : option->get_lnames()) names.push_back("--" + name);
  return names;
}

std::vector<std::string> command_names(const CLI::App* command) {
  std::vector<std::string> names;
  for (const auto* sub : command->get_subcommands([](const CLI::App*) { return true; }))
    names.push_back(sub->get_name());
  return names;
}

/// An option that may be given several times.
bool repeats(const CLI::Option& option) {
  return option.get_items_expected_max() > 1 && !option.get_positional();
}

[[noreturn]] void reject_extra(const CLI::App* command, const std::string& extra) {
  const auto help = path_of(command) + " --help";
  if (extra.starts_with("-")) {
    const auto name = extra.substr(0, extra.find('='));
    fail_input("unknown option '{}'{}; see {}", name, base::did_you_mean(name, option_names(command)), help);
  }
  if (const auto names = command_names(command); !names.empty())
    fail_input("unknown command '{}'{}; see {}", extra, base::did_you_mean(extra, names), help);
  std::string lists;
  for (const auto* option : command->get_options())
    if (repeats(*option)) lists += (lists.empty() ? "" : " or ") + option->get_name();
  const auto hint = lists.empty() ? "" : fmt::format(" (to give several, repeat {})", lists);
  fail_input("unexpected argument '{}'{}; see {}", extra, hint, help);
}

}  // namespace

report::ProgressPrinter& Context::progress() {
  if (!progress_) {
    auto settings = report::progress_options_for(stderr);
    settings.quiet = options.quiet;
    progress_ = std::make_unique<report::ProgressPrinter>(settings);
  }
  return *progress_;
}

exec::ExecutionOptions Context::execution() {
  exec::ExecutionOptions execution;
  execution.threads = options.threads;
  execution.isa = chosen_isa(options.isa);
  execution.device = chosen_device(options.device);
  execution.progress = &progress();
  execution.stop = stop_;
  return execution;
}

exec::Engine& Context::engine() {
  if (!engine_) engine_ = std::make_unique<exec::Engine>(execution());
  return *engine_;
}

void Context::print(const Json& json, const std::string& text) {
  if (progress_) progress_->finish();
  write_output(options.json ? report::json_text(json) : text);
}

void Context::print_result(const std::string& json, const std::string& before) {
  const auto parsed = Json::parse(json);
  print(parsed, before + report::result_text(parsed));
}

CLI::App* add_command(CLI::App& parent, const std::string& name, const std::string& help, Context& context,
                      Action& action, Action run) {
  auto* command = parent.add_subcommand(name, help);
  auto& options = context.options;
  command->add_flag("--json", options.json, "Print the result as JSON and nothing else on standard output")
      ->group("Common");
  command->add_flag("--quiet", options.quiet, "No progress; warnings only")->group("Common");
  command->add_option("--threads", options.threads, "Threads (0: one for each core); never changes a result")
      ->check(CLI::Range(0, 4096))
      ->group("Common");
  command->add_option("--isa", options.isa, "Instruction set: auto, scalar, avx2, avx512, avx512_bf16")
      ->group("Common");
  command->add_option("--device", options.device, "Device: auto, cpu, cuda, cuda:N")->group("Common");
  command->callback([&action, run = std::move(run)] { action = run; });
  return command;
}

void add_recipe_options(CLI::App* command, std::shared_ptr<pipeline::RecipeOptions> options) {
  command->add_option("--set", options->set, "KEY=VALUE: a recipe key, as often as needed")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command
      ->add_option("--scale", options->scale,
                   "tiny (seconds), small (minutes), full, or a part of the training: 0.2")
      ->type_name("SCALE");
  command
      ->add_option_function<std::int64_t>(
          "--seed", [options](std::int64_t seed) { options->seed = seed; }, "Seed of the run")
      ->check(whole_range(0, kMaxSeed));
}

void rethrow_usage(const CLI::App& app, const CLI::ParseError& error) {
  const auto* command = chosen_command(&app);
  const bool missing =
      dynamic_cast<const CLI::RequiredError*>(&error) != nullptr && !command_names(command).empty();
  // A misspelt command is both: missing as a command, and left over as a word.
  if (missing || dynamic_cast<const CLI::ExtrasError*>(&error) != nullptr)
    for (const auto& extra : app.remaining(true)) reject_extra(command, extra);
  if (missing) fail_input("a command is missing; see {} --help", path_of(command));
  fail_input("{}; see {} --help", error.what(), path_of(command));
}

CLI::Validator real_range(double low, double high) {
  CLI::Validator validator(fmt::format("{} to {}", low, high));
  validator.name("RANGE").operation([low, high](std::string& text) -> std::string {
    double value = 0;
    if (CLI::detail::lexical_cast(text, value) && value >= low && value <= high) return "";
    return fmt::format("{} must be {} to {}", text, low, high);
  });
  return validator;
}

CLI::Validator whole_range(std::int64_t low, std::int64_t high) {
  CLI::Validator validator(fmt::format("{} to {}", low, high));
  validator.name("RANGE").operation([low, high](std::string& text) -> std::string {
    std::int64_t value = 0;
    const auto* end = text.data() + text.size();
    const auto parsed = std::from_chars(text.data(), end, value);
    const bool octal = text.size() > 1 && text[0] == '0';  // as CLI11 would read it
    if (parsed.ec == std::errc() && parsed.ptr == end && !octal && value >= low && value <= high) return "";
    return fmt::format("{} must be a whole number from {} to {}", text, low, high);
  });
  return validator;
}

void add_skip_bad_lines(CLI::App* command, bool& value) {
  command->add_flag("--skip-bad-lines", value,
                    "Count lines that are no document (.jsonl, --split-on line) and go on");
}

void take_one_value_each(CLI::App& app) {
  for (auto* option : app.get_options())
    if (repeats(*option)) option->allow_extra_args(false);
  for (auto* command : app.get_subcommands([](const CLI::App*) { return true; }))
    take_one_value_each(*command);
}

Json order_json(const pipeline::DeterminismCost& price) {
  return {{"steps", price.steps},
          {"ordered_seconds", price.ordered_seconds},
          {"any_order_seconds", price.any_order_seconds},
          {"program_seconds", price.program_seconds}};
}

void write_output(std::string_view text) {
  errno = 0;
  if (std::fwrite(text.data(), 1, text.size(), stdout) == text.size() && std::fflush(stdout) == 0) return;
  base::fail("standard output cannot be written: {}", std::generic_category().message(errno));
}

std::string read_standard_input(std::size_t max_bytes) {
  std::string text;
  char block[1 << 16];
  while (std::cin.read(block, sizeof block), std::cin.gcount() > 0) {
    text.append(block, static_cast<std::size_t>(std::cin.gcount()));
    if (text.size() > max_bytes)
      fail_input("standard input: over {} bytes; use a file",
                 base::with_commas(static_cast<std::int64_t>(max_bytes)));
  }
  return text;
}

}  // namespace fairway::app
