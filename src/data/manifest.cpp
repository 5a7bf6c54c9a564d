#include <fmt/format.h>

#include <nlohmann/json.hpp>

#include <algorithm>
#include <concepts>
#include <stdexcept>
#include <utility>

#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/hash.h"
#include "fairway/data/build.h"

namespace fairway::data {
namespace {

using base::fail_input;
using json = nlohmann::ordered_json;

constexpr std::string_view kFormat = "fairway-shards";
constexpr std::uint64_t kMaxManifestBytes = std::uint64_t{64} << 20;

json totals_json(const SplitTotals& totals, const std::vector<ShardInfo>& shards) {
  json list = json::array();
  for (const ShardInfo& shard : shards) {
    list.push_back({{"file", shard.file},
                    {"tokens", shard.tokens},
                    {"documents", shard.documents},
                    {"xxh3", shard.hash}});
    if (shard.side_car.empty()) continue;
    list.back()["side_car"] = {
        {"file", shard.side_car}, {"bytes", shard.side_car_bytes}, {"xxh3", shard.side_car_hash}};
  }
  return {{"documents", totals.documents},
          {"tokens", totals.tokens},
          {"text_bytes", totals.text_bytes},
          {"shards", std::move(list)}};
}

/// A whole number of the type it goes to. (The library's own conversion cuts fractions off, and what it does
/// with too large a number is undefined.)
template <std::integral T>
T whole(const json& object, const char* key) {
  const json& value = object.at(key);
  const bool fits = value.is_number_unsigned()
                        ? std::in_range<T>(value.get<std::uint64_t>())
                        : value.is_number_integer() && std::in_range<T>(value.get<std::int64_t>());
  if (!fits) throw std::out_of_range(fmt::format("'{}' is no whole number in range", key));
  return value.get<T>();
}

void parse_totals(const json& object, SplitTotals& totals, std::vector<ShardInfo>& shards) {
  totals.documents = whole<decltype(totals.documents)>(object, "documents");
  totals.tokens = whole<decltype(totals.tokens)>(object, "tokens");
  totals.text_bytes = whole<decltype(totals.text_bytes)>(object, "text_bytes");
  for (const json& entry : object.at("shards")) {
    ShardInfo shard;
    shard.file = entry.at("file"), shard.hash = entry.at("xxh3");
    shard.tokens = whole<std::uint64_t>(entry, "tokens");
    shard.documents = whole<std::uint64_t>(entry, "documents");
    if (entry.contains("side_car")) {
      const json& side_car = entry.at("side_car");
      shard.side_car = side_car.at("file"), shard.side_car_hash = side_car.at("xxh3");
      shard.side_car_bytes = whole<std::uint64_t>(side_car, "bytes");
    }
    shards.push_back(std::move(shard));
  }
}

json options_json(const BuildOptions& options) {
  return {{"prefix", options.prefix},
          {"shard_tokens", options.shard_tokens},
          {"shard_per_file", options.shard_per_file},
          {"validation_only", options.validation_only},
          {"side_car", options.side_car.value_or(false)},
          {"hold_out_every", options.hold_out.every},
          {"hold_out_last_percent", options.hold_out.last_percent},
          {"split_on", base::name_of(options.reader.split_on)},
          {"field", options.reader.field},
          {"skip_empty", options.reader.skip_empty},
          {"skip_bad_lines", options.reader.skip_bad_lines},
          {"min_document_bytes", options.reader.min_document_bytes}};
}

BuildOptions parse_options(const json& object) {
  BuildOptions options;
  options.prefix = object.at("prefix");
  options.shard_tokens = whole<decltype(options.shard_tokens)>(object, "shard_tokens");
  options.shard_per_file = object.at("shard_per_file");
  options.validation_only = object.at("validation_only");
  options.side_car = object.value("side_car", false);  // older manifests have none
  options.hold_out.every = whole<decltype(options.hold_out.every)>(object, "hold_out_every");
  options.hold_out.last_percent = object.at("hold_out_last_percent");
  options.reader.split_on =
      base::parse_name<SplitOn>(object.at("split_on").get<std::string>()).value_or(SplitOn::file);
  options.reader.field = object.at("field");
  options.reader.skip_empty = object.at("skip_empty");
  options.reader.skip_bad_lines = object.value("skip_bad_lines", false);  // older manifests have none
  options.reader.min_document_bytes =
      static_cast<std::int64_t>(whole<std::uint64_t>(object, "min_document_bytes"));
  return options;
}

}  // namespace

std::string manifest_json(const Manifest& manifest) {
  json sources = json::array();
  for (const SourceInfo& source : manifest.sources)
    sources.push_back({{"name", source.name},
                       {"bytes", source.bytes},
                       {"documents", source.documents},
                       {"skipped_lines", source.skipped_lines}});
  const json object = {{"format", kFormat},
                       {"version", 1},
                       {"tokenizer",
                        {{"fingerprint", manifest.tokenizer_fingerprint},
                         {"vocab_size", manifest.vocab_size},
                         {"bos_id", manifest.bos_id},
                         {"transform", manifest.transform}}},
                       {"train", totals_json(manifest.train, manifest.train_shards)},
                       {"val", totals_json(manifest.val, manifest.val_shards)},
                       {"sources", std::move(sources)},
                       {"options", options_json(manifest.options)}};
  // File names need not be UTF-8; everything else is.
  return object.dump(2, ' ', false, json::error_handler_t::replace) + "\n";
}

Manifest parse_manifest(const std::string& text, const std::string& name) {
  try {
    const json object = json::parse(text);
    if (object.at("format") != kFormat || object.at("version") != 1)
      fail_input("{}: not a manifest of shards that this version knows", name);
    Manifest manifest;
    const json& tokenizer = object.at("tokenizer");
    manifest.tokenizer_fingerprint = tokenizer.at("fingerprint");
    manifest.vocab_size = whole<decltype(manifest.vocab_size)>(tokenizer, "vocab_size");
    manifest.bos_id = whole<decltype(manifest.bos_id)>(tokenizer, "bos_id");
    manifest.transform = tokenizer.at("transform");
    parse_totals(object.at("train"), manifest.train, manifest.train_shards);
    parse_totals(object.at("val"), manifest.val, manifest.val_shards);
    for (const json& source : object.at("sources")) {
      manifest.sources.push_back(
          {source.at("name"), whole<std::uint64_t>(source, "bytes"),
           whole<std::uint64_t>(source, "documents"),
           source.contains("skipped_lines") ? whole<std::uint64_t>(source, "skipped_lines") : 0});
      manifest.skipped.count += manifest.sources.back().skipped_lines;
    }
    manifest.options = parse_options(object.at("options"));
    return manifest;
  } catch (const nlohmann::json::exception& error) {
    fail_input("{}: damaged manifest ({}); build the shards again", name, error.what());
  } catch (const std::out_of_range& error) {
    fail_input("{}: damaged manifest ({}); build the shards again", name, error.what());
  }
}

std::optional<Manifest> find_manifest(const std::filesystem::path& shard) {
  const auto path = shard.parent_path() / "manifest.json";
  if (!std::filesystem::is_regular_file(path)) return std::nullopt;
  return parse_manifest(base::read_text_file(path, kMaxManifestBytes), path.string());
}

std::optional<std::uint64_t> count_documents(const ShardReader& shard, std::optional<std::int32_t> bos) {
  if (!bos) {
    const auto manifest = find_manifest(shard.path());
    if (!manifest) return std::nullopt;
    const auto name = shard.path().filename().string();
    const auto lists = [&](const auto& shards) {
      return std::ranges::count(shards, name, &ShardInfo::file) > 0;
    };
    if (!lists(manifest->train_shards) && !lists(manifest->val_shards)) return std::nullopt;
    bos = manifest->bos_id;
  }
  return static_cast<std::uint64_t>(
      std::ranges::count_if(shard.tokens(), [&](std::uint16_t id) { return id == *bos; }));
}

void check_tokenizer(const Manifest& manifest, const text::Tokenizer& tokenizer, const std::string& name) {
  if (manifest.tokenizer_fingerprint == base::hex64(tokenizer.fingerprint())) return;
  fail_input(
      "{}: shards were made with tokenizer {} (vocabulary {}), not with {} (vocabulary {}); give that "
      "tokenizer or build the shards again",
      name, manifest.tokenizer_fingerprint, manifest.vocab_size, base::hex64(tokenizer.fingerprint()),
      tokenizer.vocab_size());
}

}  // namespace fairway::data
