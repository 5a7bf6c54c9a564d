// fairway score

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/pipeline/run/run.h"

namespace fairway::app {
namespace {

struct ScoreArguments {
  pipeline::ScoreRequest request;
  std::vector<std::string> texts, shards;
};

void score(ScoreArguments& arguments, Context& context) {
  auto& request = arguments.request;
  if (arguments.texts.empty() == arguments.shards.empty())
    base::fail_input("score: give the text to score, either --text FILE or --shards GLOB");
  request.patterns = arguments.texts.empty() ? arguments.shards : arguments.texts;
  context.print_result(pipeline::score_file(request, context.engine()).json);
}

}  // namespace

void add_score(CLI::App& app, Context& context, Action& action) {
  auto arguments = std::make_shared<ScoreArguments>();
  auto& request = arguments->request;
  auto* command = add_command(app, "score", "Bits per byte of a model on a text", context, action,
                              [arguments](Context& c) { score(*arguments, c); });
  command->add_option("model", request.model, "A .fairway artifact, a .fwck checkpoint, or a run's folder")
      ->required()
      ->type_name("MODEL");
  command
      ->add_option("--text", arguments->texts,
                   "Texts: .txt or .jsonl, each also .gz, .xz, .zst; quote patterns; -: standard input")
      ->type_name("FILE");
  command->add_option("--shards", arguments->shards, "Token shards (.bin); quote patterns")
      ->type_name("GLOB");
  command->add_option_function<int>(
      "--stride", [arguments](int stride) { arguments->request.stride = stride; },
      "Stride of the sliding windows; 0: windows side by side (default: the recipe's)");
  command
      ->add_option("--window", request.window,
                   "Tokens of a window, also more than the model was trained with (default: the recipe's)")
      ->check(CLI::Range(2, 1 << 20));
  command->add_flag("--plain", request.plain, "Also score windows side by side");
  command->add_flag("--raw", request.raw, "Of a checkpoint: the last step's weights, not the average");
  command
      ->add_option_function<std::string>(
          "--tail",
          [arguments](const std::string& name) {
            arguments->request.tail = base::parse_name<score::Tail>(name);
          },
          "clean or published")
      ->check(CLI::IsMember({"clean", "published"}));
  command
      ->add_option_function<std::string>(
          "--rule",
          [arguments](const std::string& name) {  // none for auto
            arguments->request.rule = base::parse_name<text::ByteRule>(name);
          },
          "Byte rule: auto, challenge, exact or surface")
      ->check(CLI::IsMember({"auto", "challenge", "exact", "surface"}));
  command
      ->add_option_function<std::string>(
          "--split-on",
          [arguments](const std::string& name) {
            arguments->request.split_on = base::parse_name<data::SplitOn>(name);
          },
          "Documents of a .txt: file, blank-line or line")
      ->check(CLI::IsMember({"file", "blank-line", "line"}));
  command->add_option("--field", request.field, "The text's field in a .jsonl");
  add_skip_bad_lines(command, request.skip_bad_lines);
  command->add_option("--tokens", request.tokens, "Score only the first so many tokens")
      ->check(whole_range(0, kMaxCount));
}

}  // namespace fairway::app
