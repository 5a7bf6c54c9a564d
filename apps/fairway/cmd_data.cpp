// fairway data build | info

#include <fmt/format.h>

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/text.h"
#include "fairway/data/build.h"
#include "fairway/data/shard.h"
#include "fairway/data/side_car.h"
#include "fairway/report/table.h"

namespace fairway::app {
namespace {

using base::fail_input;
using base::with_commas;

struct BuildArguments {
  std::vector<std::string> patterns;
  std::string tokenizer, out, split_on = "file";
  bool fuse_markers = false;
  data::BuildOptions options;
};

std::string split_line(const char* name, const data::SplitTotals& t) {
  return fmt::format("{}: {} documents, {} tokens, {} bytes of text\n", name,
                     with_commas(static_cast<std::int64_t>(t.documents)),
                     with_commas(static_cast<std::int64_t>(t.tokens)),
                     with_commas(static_cast<std::int64_t>(t.text_bytes)));
}

void build(const BuildArguments& arguments, Context& context) {
  auto options = arguments.options;
  options.out = arguments.out;
  options.reader.split_on = *base::parse_name<data::SplitOn>(arguments.split_on);
  if (options.hold_out.every > 0 && options.hold_out.last_percent > 0)
    fail_input("--val-every and --val-percent: choose one of the two");
  auto tokenizer = text::Tokenizer::load(arguments.tokenizer);
  if (arguments.fuse_markers) tokenizer = tokenizer.with_fused_markers();
  auto& engine = context.engine();
  const auto manifest = data::build_shards(data::find_texts(arguments.patterns), tokenizer, options,
                                           engine.pool(), engine.progress(), context.stop());
  auto json = Json::parse(data::manifest_json(manifest));
  json["out"] = arguments.out;
  json["skipped_lines"] = manifest.skipped.count;
  context.print(json, fmt::format("{}: {} training and {} validation shards\n", arguments.out,
                                  manifest.train_shards.size(), manifest.val_shards.size()) +
                          split_line("train", manifest.train) + split_line("val", manifest.val) +
                          (manifest.skipped.count > 0 ? manifest.skipped.text() + "\n" : ""));
}

void add_build(CLI::App& parent, Context& context, Action& action) {
  auto arguments = std::make_shared<BuildArguments>();
  auto& o = arguments->options;
  auto* command = add_command(parent, "build", "Texts to token shards, on all cores", context, action,
                              [arguments](Context& c) { build(*arguments, c); });
  command
      ->add_option("files", arguments->patterns,
                   "Texts: .txt or .jsonl, each also .gz, .xz, .zst; quote patterns; -: standard input")
      ->required()
      ->type_name("FILE");
  command->add_option("--tokenizer", arguments->tokenizer, "A SentencePiece .model")
      ->required()
      ->type_name("MODEL");
  command->add_flag("--fuse-markers", arguments->fuse_markers,
                    "Published CaseOps models: a space and the operator behind it are one token, as "
                    "data.fuse_markers has it");
  command->add_option("--out", arguments->out, "Folder for the shards")->required()->type_name("FOLDER");
  command->add_option("--split-on", arguments->split_on, "Documents of a .txt: file, blank-line or line")
      ->check(CLI::IsMember({"file", "blank-line", "line"}))
      ->capture_default_str();
  command->add_option("--field", o.reader.field, "The text's field in a .jsonl")->capture_default_str();
  command
      ->add_option("--min-document-bytes", o.reader.min_document_bytes,
                   "blank-line: join paragraphs until this size")
      ->check(whole_range(0, kMaxCount));
  command->add_flag("--skip-empty", o.reader.skip_empty, "Leave empty documents out instead of stopping");
  add_skip_bad_lines(command, o.reader.skip_bad_lines);
  command->add_option("--prefix", o.prefix, "Shards are named PREFIX_train_000000.bin")
      ->capture_default_str();
  command->add_option("--shard-tokens", o.shard_tokens, "Tokens of a full shard")
      ->check(CLI::Range(1, 1'000'000'000))
      ->capture_default_str();
  command->add_flag("--shard-per-file", o.shard_per_file, "One training shard for each input file");
  command->add_flag("--validation", o.validation_only, "Everything goes to validation shards");
  command->add_flag_callback(
      "--side-car", [arguments] { arguments->options.side_car = true; },
      "Bytes of each validation token in PREFIX_val_bytes_000000.bin (default: for CaseOps tokenizers)");
  command->add_flag_callback(
      "--no-side-car", [arguments] { arguments->options.side_car = false; }, "No such files");
  command->add_option("--val-every", o.hold_out.every, "Every n-th document goes to the validation shards")
      ->check(whole_range(0, kMaxCount));
  command
      ->add_option("--val-percent", o.hold_out.last_percent,
                   "The last percent of the documents go to the validation shards")
      ->check(real_range(0, 100));
}

struct InfoArguments {
  std::vector<std::string> patterns;
  std::string tokenizer;
};

void info(const InfoArguments& arguments, Context& context) {
  report::Table table{"",
                      {{"shard"},
                       {"tokens", report::Align::right},
                       {"documents", report::Align::right},
                       {"largest id", report::Align::right}},
                      {},
                      1};
  Json json = {{"shards", Json::array()}};
  std::optional<std::int32_t> bos;
  if (!arguments.tokenizer.empty()) bos = text::Tokenizer::load(arguments.tokenizer).bos_id();
  std::uint64_t tokens = 0;
  std::optional<std::uint64_t> documents = 0;  // nothing once one shard's are unknown
  const auto known = [](const auto& n) { return n ? with_commas(static_cast<std::int64_t>(*n)) : "?"; };
  const auto known_json = [](const auto& n) { return n ? Json(*n) : Json(); };
  for (const auto& path : data::find_texts(arguments.patterns)) {
    if (data::is_side_car(path)) continue;
    const data::ShardReader shard(path);
    const auto begins = data::count_documents(shard, bos);
    const auto count = shard.tokens().size();
    const auto largest = count == 0 ? 0 : *std::ranges::max_element(shard.tokens());
    table.add({path.filename().string(), with_commas(static_cast<std::int64_t>(count)), known(begins),
               std::to_string(largest)});
    json["shards"].push_back({{"file", path.string()},
                              {"tokens", count},
                              {"documents", known_json(begins)},
                              {"largest_id", largest}});
    tokens += count;
    documents = documents && begins ? std::optional(*documents + *begins) : std::nullopt;
  }
  table.add({"all", with_commas(static_cast<std::int64_t>(tokens)), known(documents), ""});
  json["tokens"] = tokens;
  json["documents"] = known_json(documents);
  context.print(json, report::to_text(table) +
                          (documents ? ""
                                     : "\nWithout a manifest.json that lists a shard, nothing says which id "
                                       "begins a document; --tokenizer does.\n"));
}

void add_info(CLI::App& parent, Context& context, Action& action) {
  auto arguments = std::make_shared<InfoArguments>();
  auto* command = add_command(parent, "info", "What is in token shards", context, action,
                              [arguments](Context& c) { info(*arguments, c); });
  command->add_option("shards", arguments->patterns, "Shards (.bin); quote patterns")
      ->required()
      ->type_name("GLOB");
  command
      ->add_option("--tokenizer", arguments->tokenizer,
                   "Count the documents by this tokenizer's <s> (default: by the manifest's)")
      ->type_name("MODEL");
}

}  // namespace

void add_data(CLI::App& app, Context& context, Action& action) {
  auto* group = app.add_subcommand("data", "Build token shards from text, and look into them");
  group->require_subcommand(1);
  add_build(*group, context, action);
  add_info(*group, context, action);
}

}  // namespace fairway::app
