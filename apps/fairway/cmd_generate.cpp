// fairway generate

#include <fmt/format.h>

#include <cstdio>

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/pipeline/stages/generate.h"

namespace fairway::app {
namespace {

struct GenerateArguments {
  std::string model;
  pipeline::GenerateOptions options;
  std::optional<int> tokens, top_k;
  std::optional<double> temperature;
  std::optional<std::string> prompt;
};

void generate(const GenerateArguments& arguments, Context& context) {
  const auto model = pipeline::open_model(arguments.model);
  const auto& defaults = model.recipe.generate;
  auto options = arguments.options;
  // A recipe without a sample has a length of 0.
  options.tokens =
      arguments.tokens.value_or(defaults.tokens > 0 ? defaults.tokens : pipeline::GenerateOptions{}.tokens);
  options.top_k = arguments.top_k.value_or(defaults.top_k);
  options.temperature = arguments.temperature.value_or(defaults.temperature);
  options.prompt = arguments.prompt.value_or(defaults.prompt);
  std::string before = options.prompt;  // not shown yet: it may turn out to be no text
  if (!context.options.json) {          // as it comes
    options.on_text = [&](std::string_view text) {
      write_output(std::exchange(before, ""));
      write_output(text);
    };
  }
  const auto made = pipeline::generate(model, options, context.engine());
  context.print({{"prompt", options.prompt},
                 {"text", made.text},
                 {"tokens", made.tokens},
                 {"tokens_per_second", made.tokens_per_second}},
                before + "\n");
}

}  // namespace

void add_generate(CLI::App& app, Context& context, Action& action) {
  auto arguments = std::make_shared<GenerateArguments>();
  auto* command = add_command(app, "generate", "Text from a model", context, action,
                              [arguments](Context& c) { generate(*arguments, c); });
  command->add_option("model", arguments->model, "A .fairway artifact, a .fwck checkpoint, or a run's folder")
      ->required()
      ->type_name("MODEL");
  command->add_option("--prompt", arguments->prompt, "Text to continue");
  command->add_option("--tokens", arguments->tokens, "Tokens to draw")->check(whole_range(1, 1 << 20));
  command->add_option("--temperature", arguments->temperature, "0: always the most likely token")
      ->check(real_range(0, 100));
  command->add_option("--top-k", arguments->top_k, "Draw from the k most likely tokens; 0: from all")
      ->check(whole_range(0, 65536));
  command->add_option("--seed", arguments->options.seed, "The same seed draws the same text")
      ->check(whole_range(0, kMaxSeed));
}

}  // namespace fairway::app
