#include "fairway/pipeline/stages/corpus.h"

#include "fairway/base/bytes.h"
#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/hash.h"
#include "fairway/base/text.h"
#include "fairway/data/build.h"
#include "fairway/data/documents.h"
#include "fairway/data/side_car.h"
#include "fairway/pipeline/stages/scoring.h"
#include "fairway/text/train.h"
#include "stages/sources.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <numeric>

namespace fairway::pipeline {

using base::fail_input;
using Json = nlohmann::ordered_json;

namespace {

/// Documents of all patterns in order; at most `max_bytes` of text (0: all).
std::vector<data::Document> read_texts(const std::vector<std::string>& patterns, const DataConfig& c,
                                       std::int64_t max_bytes, std::vector<SourceFile>& sources,
                                       exec::Engine& engine) {
  std::vector<data::Document> documents;
  std::int64_t bytes = 0;
  auto drain = [&](auto& reader, const std::string& name, std::optional<base::FileId> id) {
    data::Document document;
    const std::int64_t before = bytes;
    const auto first = documents.size();
    while ((max_bytes == 0 || bytes < max_bytes) && reader.next(document)) {
      engine.throw_if_stopped();
      bytes += static_cast<std::int64_t>(document.text.size());
      documents.push_back(std::move(document));
    }
    const auto own = std::span(documents).subspan(first);
    sources.push_back({base::printable(name), id, hash_of(keys_of(own)), own.size(),
                       static_cast<std::uint64_t>(bytes - before), 0, reader.skipped().count});
    if (reader.skipped().count > 0) engine.progress().warning(reader.skipped().text());
  };
  data::check_read_once(patterns);
  for (const auto& pattern : patterns) {
    if (const auto text = builtin_text(pattern)) {
      data::DocumentReader reader(base::as_bytes(*text), pattern.substr(pattern.find(':') + 1), c.reader);
      drain(reader, pattern, {});
      continue;
    }
    for (const auto& file : data::find_texts({&pattern, 1})) {
      data::DocumentReader reader(file, c.reader);
      drain(reader, file.filename().string(), base::file_id(file));
    }
  }
  if (documents.empty())
    fail_input("{}: no documents in it", patterns.empty() ? "data.train" : patterns.front());
  return documents;
}

bool all_shards(const std::vector<std::string>& patterns, const char* key) {
  const auto shards = std::ranges::count_if(patterns, [](const auto& p) { return is_shard_pattern(p); });
  if (shards != 0 && static_cast<std::size_t>(shards) != patterns.size())
    fail_input("{}: texts and shards (.bin) mixed; tokenise the texts with `fairway data build` first", key);
  return shards != 0;
}

/// Every n-th document is held out for validation.
std::vector<data::Document> hold_out(std::vector<data::Document>& documents, const DataConfig& c) {
  std::vector<data::Document> kept, held;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    const bool out = c.holdout_every > 0 && (i + 1) % static_cast<std::size_t>(c.holdout_every) == 0;
    (out ? held : kept).push_back(std::move(documents[i]));
  }
  if (held.empty() && c.train == DataConfig{}.train)
    fail_input(
        "the recipe has no texts to train on: add a table [data] with train = [\"texts/*.txt\"], and with "
        "split_on = \"blank-line\" or \"line\" where one file holds many documents (for the demo text: "
        "split_on = \"blank-line\", min_document_bytes = 2000)");
  if (held.empty())
    fail_input(
        "data.holdout_every = {} holds none of the {} document(s) back: give more documents, data.split_on, "
        "or data.validation",
        c.holdout_every, documents.size());
  documents = std::move(kept);
  return held;
}

std::string joined(const std::vector<data::Document>& documents) {
  std::string text;
  for (const auto& d : documents) text += d.text;
  return text;
}

text::Tokenizer train_or_load(const Recipe& recipe, const std::vector<data::Document>& documents,
                              exec::Engine& engine) {
  if (!recipe.data.tokenizer.empty()) {
    const auto named = text::Tokenizer::load(recipe.data.tokenizer);
    return recipe.data.fuse_markers ? named.with_fused_markers() : named;
  }
  if (documents.empty())
    fail_input(
        "data.tokenizer is not set and data.train holds token shards; name the tokenizer that made them");
  engine.progress().note(fmt::format("training a tokenizer of {} pieces", recipe.model.vocab_size));
  std::vector<std::string_view> views;
  for (const auto& d : documents) views.emplace_back(d.text);
  text::TrainTokenizerOptions options;
  options.vocab_size = recipe.model.vocab_size;
  options.case_operators = recipe.data.case_operators;
  options.fuse_markers = recipe.data.fuse_markers;
  return text::train_tokenizer(views, options);
}

void check_vocabulary(const text::Tokenizer& tokenizer, const Recipe& recipe, exec::Engine& engine) {
  if (tokenizer.vocab_size() > recipe.model.vocab_size)
    fail_input("{}: the tokenizer has {} pieces, the model only model.vocab_size = {}", recipe.data.tokenizer,
               tokenizer.vocab_size(), recipe.model.vocab_size);
  if (tokenizer.bos_id() < 0)
    fail_input("{}: the tokenizer has no <s> to begin documents with", recipe.data.tokenizer);
  if ((recipe.model.documents || recipe.model.smear_channels) && tokenizer.bos_id() != recipe.model.bos_id)
    engine.progress().warning(fmt::format(
        "model.bos_id = {} is not the tokenizer's {}: the model does not see where documents begin",
        recipe.model.bos_id, tokenizer.bos_id()));
  if (const auto* fusion = tokenizer.marker_fusion(); fusion && recipe.model.smear_channels)
    for (const auto& pair : fusion->pairs)
      if (std::ranges::find(recipe.model.smear_closed, pair.donor) == recipe.model.smear_closed.end()) {
        engine.progress().note(
            fmt::format("model.smear_closed lacks the fused marker {}: published, the smear gate is shut "
                        "behind all three",
                        pair.donor));
        break;
      }
  // The rule must work before anything is trained; whether `surface` does, the text says.
  const auto rule = recipe.score.rule.value_or(text::default_byte_rule(tokenizer));
  if (rule != text::ByteRule::surface) text::make_byte_table(tokenizer, rule, recipe.model.vocab_size);
}

/// What the tokens after the first one add to the decoded text. A first byte of a character alone decodes to
/// U+FFFD, longer than the character may be: then nothing is added, rather than less.
std::int64_t decoded_bytes(const text::Tokenizer& tokenizer, std::span<const std::uint16_t> tokens) {
  const std::int64_t all = std::ssize(tokenizer.decode_any(tokens));
  const std::int64_t before = std::ssize(tokenizer.decode_any(tokens.first(1)));
  return std::max<std::int64_t>(0, all - before);
}

/// Documents of token shards: from each <s> to the next, with the bytes that their tokens decode to. Shards
/// may begin inside a document; their first token is nobody's target.
std::vector<score::DocumentText> decoded_documents(std::span<const std::uint16_t> tokens,
                                                   const text::Tokenizer& tokenizer, exec::Engine& engine) {
  std::vector<score::DocumentText> documents;
  for (std::size_t i = 0; i < tokens.size(); ++i)
    if (i == 0 || tokens[i] == tokenizer.bos_id())
      documents.push_back({.first_target = static_cast<std::int64_t>(i)});
  engine.pool().run(std::ssize(documents), [&](std::int64_t number) {
    const auto i = static_cast<std::size_t>(number);
    const auto first = static_cast<std::size_t>(documents[i].first_target);
    const auto end =
        i + 1 < documents.size() ? static_cast<std::size_t>(documents[i + 1].first_target) : tokens.size();
    documents[i].bytes = decoded_bytes(tokenizer, tokens.subspan(first, end - first));
  });
  return documents;
}

/// The files that a pattern of shards names.
void add_shards(const std::string& pattern, std::vector<SourceFile>& sources) {
  for (const auto& file : data::find_shards(pattern)) {
    const data::ShardReader shard(file);
    sources.push_back({base::printable(file.filename().string()), base::file_id(file),
                       base::hash64(std::as_bytes(shard.tokens())), 0, 0, shard.tokens().size()});
  }
}

/// The byte counts beside shards; empty when there are none.
std::vector<std::uint16_t> read_side_cars(const std::vector<std::string>& patterns) {
  std::vector<std::uint16_t> all;
  std::string with, without;  // a file each
  for (const auto& pattern : patterns)
    for (const auto& file : data::find_shards(pattern)) {
      const auto counts = data::read_side_car(data::ShardReader(file));
      (counts ? with : without) = file.string();
      if (counts) all.insert(all.end(), counts->begin(), counts->end());
    }
  if (!with.empty() && !without.empty())
    fail_input(
        "{} has byte counts beside it (_bytes_NUMBER.bin) and {} has none; give them to all or to none", with,
        without);
  return all;
}

/// What is read twice: warnings, and lines of the manifest.
Json say_repetitions(const std::vector<SourceFile>& train, const std::vector<DocumentKey>& trained,
                     const ScoredText& validation, exec::Engine& engine) {
  Json notes = Json::array();
  const auto add = [&](const char* what, const std::vector<std::string>& lines) {
    for (const auto& line : lines) {
      notes.push_back(what + line);
      engine.progress().warning(notes.back().get<std::string>());
    }
  };
  add("data.train: ", repeated_sources(train));
  add("data.validation: ", repeated_sources(validation.sources));
  add("", shared_text(train, trained, validation));
  return notes;
}

Json split_json(std::uint64_t documents, std::uint64_t tokens, std::uint64_t bytes) {
  return {{"documents", documents}, {"tokens", tokens}, {"text_bytes", bytes}};
}

}  // namespace

ScoredText scored_documents(const std::vector<data::Document>& documents, const text::Tokenizer& tokenizer,
                            exec::Engine& engine) {
  ScoredText result;
  std::vector<std::int64_t> begins;
  result.tokens = data::tokenize_documents(documents, tokenizer, engine.pool(), &begins);
  result.text = joined(documents);
  result.document_keys = keys_of(documents);
  // Target t is token t + 1, so the document whose <s> stands at i has its first token as target i; the <s>
  // itself (but for the very first) is the last target of the document before.
  begins.push_back(std::ssize(result.tokens));
  const std::span<const std::uint16_t> tokens = result.tokens;
  for (std::size_t i = 0; i < documents.size(); ++i) {
    result.documents.push_back({begins[i], std::ssize(documents[i].text)});
    const auto ids = tokens.subspan(static_cast<std::size_t>(begins[i]),
                                    static_cast<std::size_t>(begins[i + 1] - begins[i]));
    result.round_trip.add(documents[i].text, tokenizer.decode(ids));
  }
  if (!text::has_case_operators(tokenizer.transform())) return result;
  result.surface.resize(tokens.size());
  engine.pool().run(std::ssize(documents), [&](std::int64_t number) {
    const auto i = static_cast<std::size_t>(number);
    const auto first = static_cast<std::size_t>(begins[i]) + 1;  // behind <s>, which counts nothing
    const auto ids = tokens.subspan(first, static_cast<std::size_t>(begins[i + 1]) - first);
    std::ranges::copy(tokenizer.surface_bytes(documents[i].text, ids),
                      result.surface.begin() + begins[i] + 1);
  });
  return result;
}

score::TextReference ScoredText::reference(const text::Tokenizer& tokenizer, text::ByteRule rule,
                                           std::int64_t targets) const {
  using From = score::TextReference::From;
  score::TextReference reference{.from = text.empty() ? From::decoded : From::text};
  std::string_view rest = text;
  for (std::size_t i = 0; i < documents.size() && documents[i].first_target < targets; ++i) {
    auto document = documents[i];
    const auto own = rest.substr(0, static_cast<std::size_t>(document.bytes));
    rest.remove_prefix(own.size());
    const auto next = i + 1 < documents.size() ? documents[i + 1].first_target : std::ssize(tokens);
    if (targets + 1 < next) {  // cut
      const auto ids =
          std::span(tokens).subspan(static_cast<std::size_t>(document.first_target),
                                    static_cast<std::size_t>(targets + 1 - document.first_target));
      document.bytes = reference.from == From::decoded
                           ? decoded_bytes(tokenizer, ids)
                           : static_cast<std::int64_t>(tokenizer.source_bytes(own, ids.subspan(1)));
    }
    reference.documents.push_back(document);
  }
  if (reference.from == From::decoded && rule == text::ByteRule::surface) {
    reference.from = From::side_car;
    reference.decoded_bytes = reference.bytes();
    for (std::size_t i = 0; i < reference.documents.size(); ++i) {
      const auto first = reference.documents[i].first_target;
      const auto next = i + 1 < reference.documents.size() ? documents[i + 1].first_target : targets;
      reference.documents[i].bytes =
          std::accumulate(surface.begin() + first + 1, surface.begin() + next + 1, std::int64_t{0});
    }
  }
  return reference;
}

bool is_shard_pattern(std::string_view pattern) { return pattern.ends_with(".bin"); }

namespace {

ScoredText read_split(const std::vector<std::string>& patterns, const DataConfig& config,
                      const text::Tokenizer& tokenizer, int vocab_size, exec::Engine& engine) {
  if (all_shards(patterns, "--text")) {
    ScoredText result;
    for (const auto& pattern : patterns) {
      const auto part = data::read_shards(pattern, vocab_size, &tokenizer);
      add_shards(pattern, result.sources);
      result.tokens.insert(result.tokens.end(), part.begin(), part.end());
    }
    result.surface = read_side_cars(patterns);
    result.documents = decoded_documents(result.tokens, tokenizer, engine);
    return result;
  }
  std::vector<SourceFile> sources;
  auto result = scored_documents(read_texts(patterns, config, 0, sources, engine), tokenizer, engine);
  result.sources = std::move(sources);
  return result;
}

}  // namespace

ScoredText read_scored_text(const std::vector<std::string>& patterns, const DataConfig& config,
                            const text::Tokenizer& tokenizer, int vocab_size, exec::Engine& engine) {
  auto result = read_split(patterns, config, tokenizer, vocab_size, engine);
  for (const auto& line : repeated_sources(result.sources)) engine.progress().warning(line);
  return result;
}

Corpus prepare_corpus(const Recipe& recipe, exec::Engine& engine) {
  const auto& c = recipe.data;
  Json manifest;
  if (all_shards(c.train, "data.train")) {
    auto tokenizer = train_or_load(recipe, {}, engine);
    check_vocabulary(tokenizer, recipe, engine);
    if (c.train.size() != 1) fail_input("data.train: one pattern of shards, not {}", c.train.size());
    auto stream = data::TokenStream::open(c.train.front(), recipe.model.vocab_size, &tokenizer);
    ScoredText validation;
    if (!c.validation.empty())
      validation = read_split(c.validation, c, tokenizer, recipe.model.vocab_size, engine);
    std::vector<SourceFile> sources;
    add_shards(c.train.front(), sources);
    manifest = {{"train", {{"shards", stream.shard_count()}, {"tokens", stream.size()}}},
                {"validation", {{"tokens", validation.tokens.size()}}},
                {"sources", sources_json(sources)},
                {"validation_sources", sources_json(validation.sources)}};
    byte_rule(recipe.score, tokenizer, validation);
    manifest["tokenizer"] = base::hex64(tokenizer.fingerprint());
    manifest["notes"] = say_repetitions(sources, {}, validation, engine);
    return {std::move(tokenizer), std::move(stream), std::move(validation), {}, manifest.dump()};
  }
  std::vector<SourceFile> sources;
  auto documents = read_texts(c.train, c, c.train_bytes, sources, engine);
  const auto held = c.validation.empty() ? hold_out(documents, c) : std::vector<data::Document>{};
  const base::Stopwatch making;
  auto tokenizer = train_or_load(recipe, documents, engine);
  const double tokenizer_seconds = making.seconds();
  check_vocabulary(tokenizer, recipe, engine);
  auto tokens = data::tokenize_documents(documents, tokenizer, engine.pool());
  auto validation = c.validation.empty()
                        ? (held.empty() ? ScoredText{} : scored_documents(held, tokenizer, engine))
                        : read_split(c.validation, c, tokenizer, recipe.model.vocab_size, engine);
  byte_rule(recipe.score, tokenizer, validation);
  auto train_text = joined(documents);
  manifest = {{"sources", sources_json(sources)},
              {"validation_sources", sources_json(validation.sources)},
              {"train", split_json(documents.size(), tokens.size(), train_text.size())},
              {"validation", validation.text.empty()  // shards may begin inside a document
                                 ? Json{{"tokens", validation.tokens.size()}}
                                 : split_json(validation.documents.size(), validation.tokens.size(),
                                              validation.text.size())},
              {"tokenizer", base::hex64(tokenizer.fingerprint())},
              {"train_hash", base::hex64(base::hash64(train_text))},
              {"validation_hash", base::hex64(base::hash64(validation.text))},
              {"notes", say_repetitions(sources, keys_of(documents), validation, engine)}};
  auto stream = data::TokenStream::from_tokens(std::move(tokens), recipe.model.vocab_size);
  return {std::move(tokenizer),  std::move(stream), std::move(validation),
          std::move(train_text), manifest.dump(),   tokenizer_seconds};
}

}  // namespace fairway::pipeline
