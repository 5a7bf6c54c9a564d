// fairway adapt, fairway verify

#include <fmt/format.h>

#include <algorithm>

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/pipeline/stages/adapt_stage.h"
#include "fairway/pipeline/stages/verify.h"

namespace fairway::app {
namespace {

struct SubjectArguments {
  pipeline::AdaptRequest request;
  std::vector<std::string> texts, shards;

  const pipeline::AdaptRequest& checked() {
    if (!texts.empty() && !shards.empty()) base::fail_input("--text, --shards: give one of them");
    request.patterns = texts.empty() ? shards : texts;
    return request;
  }
};

void add_subject(CLI::App* command, SubjectArguments& arguments) {
  auto& request = arguments.request;
  command
      ->add_option("model", request.model,
                   "A .fairway artifact, a .fwck checkpoint, or the folder of a finished run")
      ->required()
      ->type_name("MODEL");
  command
      ->add_option("--text", arguments.texts,
                   "Texts: .txt or .jsonl, each also .gz, .xz, .zst (default: the run's validation text)")
      ->type_name("FILE");
  command->add_option("--shards", arguments.shards, "Token shards (.bin); quote patterns")->type_name("GLOB");
  command
      ->add_option("--recipe", request.recipe,
                   "Take [adapt], [score] and [budget] from this recipe (default: the model's own)")
      ->type_name("RECIPE");
  command->add_option("--set", request.set, "Change a key: adapt.lr=0.001 (may be repeated)")
      ->type_name("KEY=VALUE")
      ->allow_extra_args(false);
  command->add_option("--tokens", request.tokens, "Only the first so many tokens")
      ->check(whole_range(0, kMaxCount));
}

struct VerifyArguments {
  SubjectArguments subject;
  pipeline::VerifyRequest request;
};

void verify(VerifyArguments& arguments, Context& context) {
  arguments.request.subject = arguments.subject.checked();
  const auto report = pipeline::verify(arguments.request, context.engine());
  std::size_t width = 0;
  for (const auto& c : report.checks) width = std::max(width, c.name.size());
  std::string text;
  for (const auto& c : report.checks)
    text += fmt::format("{:6}  {:{}}  {}\n", c.ok ? "ok" : "FAILED", c.name, width, c.figures);
  const auto json = Json::parse(report.json);
  text += fmt::format("\n{}\n", json["verdict"].get<std::string>());
  context.print(json, text);
  if (!report.ok) context.set_exit_code(1);
}

}  // namespace

void add_adapt(CLI::App& app, Context& context, Action& action) {
  auto arguments = std::make_shared<SubjectArguments>();
  auto* command = add_command(
      app, "adapt", "Test-time training on a text, and its score with a verdict", context, action,
      [arguments](Context& c) { c.print_result(pipeline::adapt_file(arguments->checked(), c.engine())); });
  add_subject(command, *arguments);
}

void add_verify(CLI::App& app, Context& context, Action& action) {
  auto arguments = std::make_shared<VerifyArguments>();
  auto* command = add_command(
      app, "verify", "Check that a score is a code length: flip test, sums, order; exit code 1 when not",
      context, action, [arguments](Context& c) { verify(*arguments, c); });
  add_subject(command, arguments->subject);
  command->add_option("--flips", arguments->request.flips, "Places where the text is changed")
      ->check(whole_range(0, 1000));
  command->add_option("--windows", arguments->request.audit_windows, "Windows whose distributions are summed")
      ->check(whole_range(1, 1000000));
  command->add_option("--places", arguments->request.seed, "Seed of the places")
      ->check(whole_range(0, kMaxSeed));
}

}  // namespace fairway::app
