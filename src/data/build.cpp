#include "fairway/data/build.h"

#include <algorithm>
#include <cmath>
#include <future>
#include <memory>
#include <numeric>

#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/hash.h"
#include "fairway/data/side_car.h"

namespace fairway::data {
namespace {

using base::fail_input;

// A batch is what is read ahead while the one before is tokenised: enough documents to keep all cores busy.
constexpr std::size_t kBatchBytes = std::size_t{4} << 20;
constexpr std::int32_t kMaxVocab = 65535;

struct Batch {
  std::vector<Document> documents;
  std::vector<std::size_t> files;  // index of each document's file
  std::uint64_t bytes = 0;
};

Batch read_batch(DocumentSet& set) {
  Batch batch;
  Document document;
  while (batch.bytes < kBatchBytes && set.next(document)) {
    batch.bytes += document.text.size();
    batch.documents.push_back(std::move(document));
    batch.files.push_back(set.file_index());
  }
  return batch;
}

// BOS and ids of every document of a batch.
void encode_batch(std::span<const Document> documents, const text::Tokenizer& tokenizer,
                  base::ThreadPool& pool, std::vector<std::vector<std::uint16_t>>& tokens) {
  tokens.resize(documents.size());
  pool.run(static_cast<std::int64_t>(documents.size()), [&](std::int64_t i) {
    const Document& document = documents[static_cast<std::size_t>(i)];
    auto& ids = tokens[static_cast<std::size_t>(i)];
    ids.assign(1, static_cast<std::uint16_t>(tokenizer.bos_id()));
    tokenizer.encode(document.text, ids, document.where);
  });
}

void check_tokenizer_fits(const text::Tokenizer& tokenizer) {
  if (tokenizer.vocab_size() > kMaxVocab)
    fail_input("a vocabulary of {} does not fit shards of 16-bit ids (at most {})", tokenizer.vocab_size(),
               kMaxVocab);
  if (tokenizer.bos_id() < 0) fail_input("the tokenizer has no beginning-of-document piece <s>");
}

// The shards of one split, in order.
class SplitWriter {
 public:
  SplitWriter(const BuildOptions& options, std::string_view split, SplitTotals& totals,
              std::vector<ShardInfo>& shards)
      : options_(options), split_(split), totals_(totals), shards_(shards) {}

  /// `counts`: of each token for the side-car, or empty.
  void add(std::span<const std::uint16_t> tokens, std::span<const std::uint16_t> counts,
           std::uint64_t text_bytes) {
    ++totals_.documents;
    totals_.tokens += tokens.size();
    totals_.text_bytes += text_bytes;
    if (writer_ && !unlimited_ && writer_->tokens() == options_.shard_tokens) close();
    open(!counts.empty());
    ++shards_.back().documents;
    while (!tokens.empty()) {
      open(!counts.empty());
      const std::uint64_t room = unlimited_ ? tokens.size() : options_.shard_tokens - writer_->tokens();
      const auto part = tokens.first(std::min<std::uint64_t>(room, tokens.size()));
      writer_->write(part);
      tokens = tokens.subspan(part.size());
      if (side_car_) {
        const auto own = counts.first(part.size());
        side_car_->write(own);
        shards_.back().side_car_bytes += std::accumulate(own.begin(), own.end(), std::uint64_t{0});
        counts = counts.subspan(part.size());
      }
      if (!tokens.empty()) close();
    }
  }
  void close() {
    if (!writer_) return;
    shards_.back().tokens = writer_->tokens();
    shards_.back().hash = finish(*writer_);
    writer_.reset();
    if (!side_car_) return;
    shards_.back().side_car_hash = finish(*side_car_);
    side_car_.reset();
  }
  void set_unlimited() { unlimited_ = true; }

 private:
  void open(bool with_side_car) {
    if (writer_) return;
    ShardInfo info;
    info.file = fmt::format("{}_{}_{:06}.bin", options_.prefix, split_, shards_.size());
    const auto path = options_.out / info.file;
    if (with_side_car) info.side_car = side_car_of(path)->filename().string();
    shards_.push_back(info);
    writer_ = std::make_unique<ShardWriter>(path);
    if (with_side_car) side_car_ = std::make_unique<ShardWriter>(options_.out / info.side_car);
  }
  static std::string finish(ShardWriter& writer) {
    writer.finish();
    return base::hex64(base::hash64(base::MappedFile(writer.path()).bytes()));
  }

  const BuildOptions& options_;
  std::string split_;
  SplitTotals& totals_;
  std::vector<ShardInfo>& shards_;
  std::unique_ptr<ShardWriter> writer_, side_car_;
  bool unlimited_ = false;
};

// Decides document by document which split it belongs to.
class Divider {
 public:
  Divider(const BuildOptions& options, const std::vector<std::filesystem::path>& files) : options_(options) {
    if (options.hold_out.last_percent == 0.0) return;
    for (const auto& file : files)
      if (!can_be_read_again(file))
        fail_input(
            "{}: a pipe cannot be read twice, as holding out the last {} % needs; hold out every n-th "
            "document, or give a file",
            file.string(), options.hold_out.last_percent);
    std::uint64_t total = 0;
    DocumentSet set(files, options.reader);
    for (Document document; set.next(document);) ++total;
    const auto held = static_cast<std::uint64_t>(
        std::ceil(static_cast<double>(total) * options.hold_out.last_percent / 100.0));
    first_held_ = total - std::min(total, held);
  }
  bool held_out(std::uint64_t index) const {
    if (options_.validation_only || index >= first_held_) return true;
    return options_.hold_out.every != 0 && (index + 1) % options_.hold_out.every == 0;
  }

 private:
  const BuildOptions& options_;
  std::uint64_t first_held_ = UINT64_MAX;
};

void check_options(const BuildOptions& options) {
  if (options.shard_tokens < 1 || options.shard_tokens > 2'000'000'000)
    fail_input("shards of {} tokens: give 1 to 2,000,000,000", options.shard_tokens);
  const HoldOut& hold = options.hold_out;
  if (!(hold.last_percent >= 0 && hold.last_percent < 100))
    fail_input("holding out {} %: give 0 to less than 100", hold.last_percent);
  if (hold.every == 1) fail_input("holding out every document leaves none to train on; give 2 or more");
  if (hold.every != 0 && hold.last_percent != 0)
    fail_input("hold out every n-th document or the last part, not both");
  if (options.validation_only && (hold.every != 0 || hold.last_percent != 0))
    fail_input("all documents are validation already; drop the hold-out");
  if (options.prefix.empty() || options.prefix.find('/') != std::string::npos)
    fail_input("shard prefix '{}': give a name without '/'", options.prefix);
}

void prepare_folder(const BuildOptions& options) {
  base::make_writable_folder(options.out);
  for (const auto& entry : std::filesystem::directory_iterator(options.out)) {
    const std::string name = entry.path().filename().string();
    if (name == "manifest.json" || (name.starts_with(options.prefix + "_") && name.ends_with(".bin")))
      fail_input("{}: the folder already holds shards ({}); give another folder or empty it",
                 options.out.string(), name);
  }
}

// Source files by name and size; the sizes also serve the progress bar.
std::vector<SourceInfo> list_sources(const std::vector<std::filesystem::path>& files) {
  std::vector<SourceInfo> sources;
  for (const auto& file : files) {
    std::error_code error;
    const auto size = can_be_read_again(file) ? std::filesystem::file_size(file, error) : 0;
    if (error) fail_input("{}: cannot be read ({})", file.string(), error.message());
    sources.push_back({file.filename().string(), size, 0, 0});
  }
  return sources;
}

// Removes the shards already written unless the build is complete: without a manifest they mislead.
class Cleanup {
 public:
  Cleanup(const BuildOptions& options, const Manifest& manifest) : options_(options), manifest_(manifest) {}
  ~Cleanup() {
    if (complete_) return;
    std::error_code ignored;
    for (const auto* shards : {&manifest_.train_shards, &manifest_.val_shards})
      for (const ShardInfo& shard : *shards) {
        std::filesystem::remove(options_.out / shard.file, ignored);
        if (!shard.side_car.empty()) std::filesystem::remove(options_.out / shard.side_car, ignored);
      }
  }
  Cleanup(const Cleanup&) = delete;
  Cleanup& operator=(const Cleanup&) = delete;
  void complete() { complete_ = true; }

 private:
  const BuildOptions& options_;
  const Manifest& manifest_;
  bool complete_ = false;
};

class Builder {
 public:
  Builder(const text::Tokenizer& tokenizer, const BuildOptions& options, const Divider& divider,
          Manifest& manifest)
      : options_(options),
        tokenizer_(tokenizer),
        divider_(divider),
        manifest_(manifest),
        train_(options, "train", manifest.train, manifest.train_shards),
        val_(options, "val", manifest.val, manifest.val_shards) {
    if (options.shard_per_file) (options.validation_only ? val_ : train_).set_unlimited();
  }

  void add(const Batch& batch, base::ThreadPool& pool) {
    encode_batch(batch.documents, tokenizer_, pool, tokens_);
    count_batch(batch.documents, pool);
    for (std::size_t i = 0; i < batch.documents.size(); ++i) {
      if (options_.shard_per_file && batch.files[i] != file_)
        (options_.validation_only ? val_ : train_).close();
      file_ = batch.files[i];
      ++manifest_.sources[file_].documents;
      SplitWriter& split = divider_.held_out(index_++) ? val_ : train_;
      split.add(tokens_[i], counts_[i], batch.documents[i].text.size());
    }
  }
  void finish() {
    train_.close();
    val_.close();
  }

 private:
  /// For side-cars, of the documents held out: nothing for <s>, then each token's bytes.
  void count_batch(std::span<const Document> documents, base::ThreadPool& pool) {
    counts_.assign(documents.size(), {});
    if (!*options_.side_car) return;
    pool.run(std::ssize(documents), [&](std::int64_t number) {
      const auto i = static_cast<std::size_t>(number);
      if (!divider_.held_out(index_ + i)) return;
      counts_[i] = tokenizer_.surface_bytes(documents[i].text, std::span(tokens_[i]).subspan(1));
      counts_[i].insert(counts_[i].begin(), 0);
    });
  }

  const BuildOptions& options_;
  const text::Tokenizer& tokenizer_;
  const Divider& divider_;
  Manifest& manifest_;
  SplitWriter train_, val_;
  std::vector<std::vector<std::uint16_t>> tokens_, counts_;
  std::uint64_t index_ = 0;
  std::size_t file_ = 0;
};

}  // namespace

Manifest build_shards(const std::vector<std::filesystem::path>& files, const text::Tokenizer& tokenizer,
                      const BuildOptions& asked, base::ThreadPool& pool, base::ProgressSink& progress,
                      std::stop_token stop) {
  check_options(asked);
  check_tokenizer_fits(tokenizer);
  auto options = asked;
  if (!options.side_car) options.side_car = text::has_case_operators(tokenizer.transform());
  Manifest manifest;
  manifest.tokenizer_fingerprint = base::hex64(tokenizer.fingerprint());
  manifest.vocab_size = tokenizer.vocab_size();
  manifest.bos_id = tokenizer.bos_id();
  manifest.transform = text::transform_name(tokenizer.transform());
  manifest.options = options;
  manifest.options.out.clear();
  manifest.sources = list_sources(files);
  prepare_folder(options);

  const Divider divider(options, files);
  DocumentSet set(files, options.reader);
  Cleanup cleanup(options, manifest);
  Builder builder(tokenizer, options, divider, manifest);
  const base::Stopwatch watch;
  std::uint64_t bytes = 0, documents = 0;
  auto ahead = std::async(std::launch::async, [&] { return read_batch(set); });
  while (true) {
    const Batch batch = ahead.get();
    if (batch.documents.empty()) break;
    ahead = std::async(std::launch::async, [&] { return read_batch(set); });
    if (stop.stop_requested()) throw base::Error(base::ErrorKind::interrupted, "data build interrupted");
    builder.add(batch, pool);
    bytes += batch.bytes;
    documents += batch.documents.size();
    base::Progress state;
    state.task = "tokenise";
    state.done = static_cast<std::int64_t>(documents);
    state.unit = "documents";
    state.rate = static_cast<double>(bytes) / 1e6 / std::max(1e-9, watch.seconds());
    state.rate_unit = "MB";
    progress.update(state);
  }
  manifest.skipped = set.skipped();
  for (std::size_t i = 0; i < set.skipped_by_file().size(); ++i)
    manifest.sources[i].skipped_lines = set.skipped_by_file()[i].count;
  if (documents == 0) fail_without_documents(files.front().string(), manifest.skipped);
  if (!options.validation_only && manifest.train.documents == 0)
    fail_input("no documents left to train on; hold out fewer than {}", documents);
  builder.finish();
  base::write_file(options.out / "manifest.json", manifest_json(manifest));
  cleanup.complete();
  return manifest;
}

std::vector<std::uint16_t> tokenize_documents(const std::vector<Document>& documents,
                                              const text::Tokenizer& tokenizer, base::ThreadPool& pool,
                                              std::vector<std::int64_t>* begins) {
  check_tokenizer_fits(tokenizer);
  std::vector<std::vector<std::uint16_t>> tokens;
  encode_batch(documents, tokenizer, pool, tokens);
  std::vector<std::uint16_t> all;
  for (const auto& ids : tokens) {
    if (begins) begins->push_back(std::ssize(all));
    all.insert(all.end(), ids.begin(), ids.end());
  }
  return all;
}

}  // namespace fairway::data
