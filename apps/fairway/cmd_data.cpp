// fairway data build | info

#include <fmt/format.h>

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/text.h"
#include "fairway/data/build.h"
#include "fairway/data/shard.h"
#include "fairway/report/table.h"

namespace fairway::app {
namespace {

using base::fail_input;
using base::with_commas;

struct BuildArguments {
  std::vector<std::string> patterns;
  std::string tokenizer, out, split_on = "file";
  data::BuildOptions options;
};

/// All files that the patterns name; a pattern without a file is an error.
std::vector<std::filesystem::path> files_of(const std::vector<std::string>& patterns) {
  std::vector<std::filesystem::path> files;
  for (const auto& pattern : patterns) {
    const auto found = base::glob(pattern);
    if (found.empty()) fail_input("{}: no such file", pattern);
    files.insert(files.end(), found.begin(), found.end());
  }
  return files;
}

std::string split_line(const char* name, const data::SplitTotals& t) {
  return fmt::format("{}: {} documents, {} tokens, {} bytes of text\n", name,
                     with_commas(static_cast<std::int64_t>(t.documents)),
                     with_commas(static_cast<std::int64_t>(t.tokens)),
                     with_commas(static_cast<std::int64_t>(t.text_bytes)));
}

void build(const BuildArguments& arguments, Context& context) {
  auto options = arguments.options;
  options.out = arguments.out;
  options.reader.split_on = *data::parse_split_on(arguments.split_on);
  if (options.hold_out.every > 0 && options.hold_out.last_percent > 0)
    fail_input("--val-every and --val-percent: choose one of the two");
  const auto tokenizer = text::Tokenizer::load(arguments.tokenizer);
  auto& engine = context.engine();
  const auto manifest = data::build_shards(files_of(arguments.patterns), tokenizer, options, engine.pool(),
                                           engine.progress(), context.stop());
  auto json = Json::parse(data::manifest_json(manifest));
  json["out"] = arguments.out;
  context.print(json, fmt::format("{}: {} training and {} validation shards\n", arguments.out,
                                  manifest.train_shards.size(), manifest.val_shards.size()) +
                          split_line("train", manifest.train) + split_line("val", manifest.val));
}

void add_build(CLI::App& parent, Context& context, Action& action) {
  auto arguments = std::make_shared<BuildArguments>();
  auto& o = arguments->options;
  auto* command = add_command(parent, "build", "Texts to token shards, on all cores", context, action,
                              [arguments](Context& c) { build(*arguments, c); });
  command
      ->add_option("files", arguments->patterns,
                   "Texts: .txt or .jsonl, each also .gz, .xz, .zst; quote patterns")
      ->required()
      ->type_name("FILE");
  command->add_option("--tokenizer", arguments->tokenizer, "A SentencePiece .model")
      ->required()
      ->type_name("MODEL");
  command->add_option("--out", arguments->out, "Folder for the shards")->required()->type_name("FOLDER");
  command->add_option("--split-on", arguments->split_on, "Documents of a .txt: file, blank-line or line")
      ->check(CLI::IsMember({"file", "blank-line", "line"}))
      ->capture_default_str();
  command->add_option("--field", o.reader.field, "The text's field in a .jsonl")->capture_default_str();
  command->add_option("--min-document-bytes", o.reader.min_document_bytes,
                      "blank-line: join paragraphs until this size");
  command->add_flag("--skip-empty", o.reader.skip_empty, "Leave empty documents out instead of stopping");
  command->add_option("--prefix", o.prefix, "Shards are named PREFIX_train_000000.bin")
      ->capture_default_str();
  command->add_option("--shard-tokens", o.shard_tokens, "Tokens of a full shard")
      ->check(CLI::Range(1, 1'000'000'000))
      ->capture_default_str();
  command->add_flag("--shard-per-file", o.shard_per_file, "One training shard for each input file");
  command->add_flag("--validation", o.validation_only, "Everything goes to validation shards");
  command->add_option("--val-every", o.hold_out.every, "Every n-th document goes to the validation shards");
  command
      ->add_option("--val-percent", o.hold_out.last_percent,
                   "The last percent of the documents go to the validation shards")
      ->check(CLI::Range(0.0, 100.0));
}

void info(const std::vector<std::string>& patterns, Context& context) {
  report::Table table{"",
                      {{"shard"},
                       {"tokens", report::Align::right},
                       {"documents", report::Align::right},
                       {"largest id", report::Align::right}},
                      {},
                      1};
  Json json = {{"shards", Json::array()}};
  std::uint64_t tokens = 0, documents = 0;
  constexpr std::uint16_t kBos = 1;
  for (const auto& path : files_of(patterns)) {
    const data::ShardReader shard(path);
    std::uint64_t begins = 0;
    std::uint16_t largest = 0;
    for (auto id : shard.tokens()) {
      begins += id == kBos;
      largest = std::max(largest, id);
    }
    const auto count = shard.tokens().size();
    table.add({path.filename().string(), with_commas(static_cast<std::int64_t>(count)),
               with_commas(static_cast<std::int64_t>(begins)), std::to_string(largest)});
    json["shards"].push_back(
        {{"file", path.string()}, {"tokens", count}, {"documents", begins}, {"largest_id", largest}});
    tokens += count;
    documents += begins;
  }
  table.add({"all", with_commas(static_cast<std::int64_t>(tokens)),
             with_commas(static_cast<std::int64_t>(documents)), ""});
  json["tokens"] = tokens;
  json["documents"] = documents;
  context.print(json, report::to_text(table));
}

void add_info(CLI::App& parent, Context& context, Action& action) {
  auto patterns = std::make_shared<std::vector<std::string>>();
  auto* command = add_command(parent, "info", "What is in token shards", context, action,
                              [patterns](Context& c) { info(*patterns, c); });
  command->add_option("shards", *patterns, "Shards (.bin); quote patterns")->required()->type_name("GLOB");
}

}  // namespace

void add_data(CLI::App& app, Context& context, Action& action) {
  auto* group = app.add_subcommand("data", "Build token shards from text, and look into them");
  group->require_subcommand(1);
  add_build(*group, context, action);
  add_info(*group, context, action);
}

}  // namespace fairway::app
