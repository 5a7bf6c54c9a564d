// fairway tokenizer train | info | encode | decode

#include <fmt/format.h>
#include <fmt/ranges.h>

#include <charconv>

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/hash.h"
#include "fairway/base/path.h"
#include "fairway/base/text.h"
#include "fairway/data/documents.h"
#include "fairway/text/byte_table.h"
#include "fairway/text/tokenizer.h"
#include "fairway/text/train.h"

namespace fairway::app {
namespace {

using base::fail_input;
constexpr std::size_t kMostInput = std::size_t{1} << 30;

struct TrainArguments {
  std::vector<std::string> files;
  std::string out, split_on = "file", field = "text", type = "bpe", transform = "none";
  bool skip_bad_lines = false;
  text::TrainTokenizerOptions options;
};

Json describe(const text::Tokenizer& tokenizer, const std::string& path) {
  return {{"path", path},
          {"vocab_size", tokenizer.vocab_size()},
          {"bos_id", tokenizer.bos_id()},
          {"transform", text::transform_name(tokenizer.transform())},
          {"byte_fallback", tokenizer.byte_fallback()},
          {"lossless", tokenizer.lossless()},
          {"strips_leading_space", tokenizer.strips_leading_space()},
          {"byte_rule", base::name_of(text::default_byte_rule(tokenizer))},
          {"fingerprint", base::hex64(tokenizer.fingerprint())},
          {"model_bytes", tokenizer.model_bytes().size()}};
}

std::string describe_text(const Json& json) {
  std::string text;
  for (const auto& [key, value] : json.items())
    text += fmt::format("{:<21} {}\n", key, value.is_string() ? value.get<std::string>() : value.dump());
  return text;
}

void train(const TrainArguments& arguments, Context& context) {
  std::vector<std::filesystem::path> inputs;
  for (const auto& pattern : arguments.files)
    for (auto& file : base::glob(pattern)) inputs.push_back(std::move(file));
  base::check_output("--out", arguments.out, inputs);
  data::ReaderOptions reader;
  reader.split_on = *base::parse_name<data::SplitOn>(arguments.split_on);
  reader.field = arguments.field;
  reader.skip_empty = true;
  reader.skip_bad_lines = arguments.skip_bad_lines;
  auto documents = data::DocumentSet::from_patterns(arguments.files, reader);
  auto options = arguments.options;
  options.type = arguments.type == "bpe" ? text::ModelType::bpe : text::ModelType::unigram;
  options.case_operators = arguments.transform == "caseops";
  data::Document document;
  const auto tokenizer = text::train_tokenizer(
      [&](std::string& out) {
        if (context.stop().stop_requested())
          throw base::Error(base::ErrorKind::interrupted, "interrupted; no tokenizer written");
        if (!documents.next(document)) return false;
        out = std::move(document.text);
        return true;
      },
      options);
  base::write_file(arguments.out, tokenizer.model_bytes());
  auto json = describe(tokenizer, arguments.out);
  const auto skipped = documents.skipped();
  if (skipped.count > 0) context.progress().warning(skipped.text());
  if (arguments.skip_bad_lines) json["skipped_lines"] = skipped.count;
  context.print(json, describe_text(json));
}

void add_train(CLI::App& parent, Context& context, Action& action) {
  auto arguments = std::make_shared<TrainArguments>();
  auto* command = add_command(parent, "train", "Train a lossless tokenizer from text", context, action,
                              [arguments](Context& c) { train(*arguments, c); });
  auto& options = arguments->options;
  command
      ->add_option("files", arguments->files,
                   "Texts: .txt or .jsonl, each also .gz, .xz, .zst; quote patterns; -: standard input")
      ->required()
      ->type_name("FILE");
  command->add_option("--out", arguments->out, "The .model file to write")
      ->required()
      ->type_name("FILE.model");
  command->add_option("--vocab-size", options.vocab_size, "Pieces")
      ->check(CLI::Range(2, 65536))
      ->capture_default_str();
  command->add_option("--type", arguments->type, "bpe or unigram")
      ->check(CLI::IsMember({"bpe", "unigram"}))
      ->capture_default_str();
  command
      ->add_option("--transform", arguments->transform,
                   "none, or caseops: words in lower case behind case operators, pieces 4 to 7")
      ->check(CLI::IsMember({"none", "caseops"}))
      ->capture_default_str();
  command->add_flag("--fuse-markers", options.fuse_markers,
                    "caseops: an operator behind a space holds it, pieces 8 and 9");
  command->add_option("--split-on", arguments->split_on, "Documents of a .txt: file, blank-line or line")
      ->check(CLI::IsMember({"file", "blank-line", "line"}))
      ->capture_default_str();
  command->add_option("--field", arguments->field, "The text's field in a .jsonl")->capture_default_str();
  add_skip_bad_lines(command, arguments->skip_bad_lines);
  command->add_option("--max-bytes", options.max_bytes, "Text used at most")
      ->check(whole_range(1, kMaxCount))
      ->capture_default_str();
  command
      ->add_option("--coverage", options.character_coverage, "Share of characters with pieces of their own")
      ->check(real_range(0.5, 1))
      ->capture_default_str();
}

void add_info(CLI::App& parent, Context& context, Action& action) {
  auto path = std::make_shared<std::string>();
  auto* command = add_command(parent, "info", "What a tokenizer is", context, action, [path](Context& c) {
    const auto json = describe(text::Tokenizer::load(*path), *path);
    c.print(json, describe_text(json));
  });
  command->add_option("model", *path, "A SentencePiece .model")->required()->type_name("MODEL");
}

struct CodeArguments {
  std::string model, text, file;
  bool pieces = false;
};

std::string input_text(const CodeArguments& arguments, const CLI::App* command) {
  if (command->count("--text") > 0) return arguments.text;
  return arguments.file.empty() ? read_standard_input(kMostInput)
                                : base::read_text_file(arguments.file, kMostInput);
}

void encode(const CodeArguments& arguments, const std::string& text, Context& context) {
  const auto tokenizer = text::Tokenizer::load(arguments.model);
  const auto ids = tokenizer.encode(text, arguments.file.empty() ? "text" : arguments.file);
  Json json = {{"ids", ids}, {"tokens", ids.size()}, {"bytes", text.size()}};
  if (!arguments.pieces) return context.print(json, fmt::format("{}\n", fmt::join(ids, " ")));
  std::string lines;
  for (auto id : ids) {
    json["pieces"].push_back(tokenizer.piece(id));
    lines += fmt::format("{}\t{}\n", id, tokenizer.piece(id));
  }
  context.print(json, lines);
}

std::vector<std::int32_t> parse_ids(std::string_view text) {
  std::vector<std::int32_t> ids;
  constexpr std::string_view kSpace = " \t\r\n,[]";
  while (true) {
    const auto start = text.find_first_not_of(kSpace);
    if (start == std::string_view::npos) return ids;
    text.remove_prefix(start);
    const auto word = text.substr(0, text.find_first_of(kSpace));
    std::int32_t id = 0;
    const auto [end, error] = std::from_chars(word.data(), word.data() + word.size(), id);
    if (error != std::errc() || end != word.data() + word.size())
      fail_input("'{}' is not a token id (a whole number)", word);
    ids.push_back(id);
    text.remove_prefix(word.size());
  }
}

void add_encode(CLI::App& parent, Context& context, Action& action) {
  auto arguments = std::make_shared<CodeArguments>();
  auto command = std::make_shared<CLI::App*>();
  *command = add_command(parent, "encode", "Text to token ids", context, action,
                         [=](Context& c) { encode(*arguments, input_text(*arguments, *command), c); });
  (*command)->add_option("model", arguments->model, "A SentencePiece .model")->required()->type_name("MODEL");
  (*command)->add_option("--text", arguments->text, "The text (default: standard input)");
  (*command)->add_option("--file", arguments->file, "The text's file")->excludes("--text");
  (*command)->add_flag("--pieces", arguments->pieces, "One line for each token: id and piece");
}

void add_decode(CLI::App& parent, Context& context, Action& action) {
  auto arguments = std::make_shared<CodeArguments>();
  auto command = std::make_shared<CLI::App*>();
  *command = add_command(parent, "decode", "Token ids to text", context, action, [=](Context& c) {
    const auto ids = parse_ids(input_text(*arguments, *command));
    const auto text = text::Tokenizer::load(arguments->model).decode(std::span<const std::int32_t>(ids));
    c.print({{"text", text}, {"tokens", ids.size()}}, text);
  });
  (*command)->add_option("model", arguments->model, "A SentencePiece .model")->required()->type_name("MODEL");
  (*command)->add_option("--text", arguments->text, "The ids (default: standard input)");
  (*command)->add_option("--file", arguments->file, "The ids' file")->excludes("--text");
}

}  // namespace

void add_tokenizer(CLI::App& app, Context& context, Action& action) {
  auto* group = app.add_subcommand("tokenizer", "Train tokenizers, encode and decode");
  group->require_subcommand(1);
  add_train(*group, context, action);
  add_info(*group, context, action);
  add_encode(*group, context, action);
  add_decode(*group, context, action);
}

}  // namespace fairway::app
