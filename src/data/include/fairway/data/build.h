#pragma once
// Documents to shards, on all cores, with a manifest that says what they are.

#include <cstdint>
#include <filesystem>
#include <optional>
#include <stop_token>
#include <string>
#include <vector>

#include "fairway/base/progress.h"
#include "fairway/base/thread_pool.h"
#include "fairway/data/documents.h"
#include "fairway/data/shard.h"
#include "fairway/text/tokenizer.h"

namespace fairway::data {

/// Which documents go to the validation shards. At most one of the two is set.
struct HoldOut {
  std::uint64_t every = 0;  ///< every n-th document (numbers n, 2n, ... from 1 over all files); 0: none
  double last_percent =
      0.0;  ///< the last p % of all documents (rounded up, at least one; reads the input twice)
};

struct BuildOptions {
  std::filesystem::path out;                 ///< folder, created when missing
  std::string prefix = "fineweb";            ///< PREFIX_train_000000.bin, PREFIX_val_000000.bin
  std::uint64_t shard_tokens = 100'000'000;  ///< a shard is full at exactly this many tokens
  bool shard_per_file = false;               ///< one train shard per input file, whatever its size
  bool validation_only = false;              ///< everything goes to the val shards
  std::optional<bool> side_car;  ///< side-cars of the val shards; none: where texts have case operators
  HoldOut hold_out;
  ReaderOptions reader;
};

struct ShardInfo {
  std::string file;  ///< name inside the folder
  std::uint64_t tokens = 0;
  std::uint64_t documents = 0;       ///< documents that begin in it
  std::string hash;                  ///< base::hex64 of base::hash64 of the file
  std::string side_car = {};         ///< its name; empty: none
  std::uint64_t side_car_bytes = 0;  ///< sum of its counts
  std::string side_car_hash = {};
};
struct SourceInfo {
  std::string name;         ///< file name without its folder
  std::uint64_t bytes = 0;  ///< as stored; 0: read from a pipe
  std::uint64_t documents = 0;
  std::uint64_t skipped_lines = 0;  ///< ReaderOptions::skip_bad_lines
};
struct SplitTotals {
  std::uint64_t documents = 0, tokens = 0, text_bytes = 0;  ///< tokens with one BOS per document
};

/// manifest.json of a shard folder.
struct Manifest {
  std::string tokenizer_fingerprint;  ///< base::hex64
  std::int32_t vocab_size = 0;
  std::int32_t bos_id = 0;
  std::string transform;
  SplitTotals train, val;
  std::vector<ShardInfo> train_shards, val_shards;
  std::vector<SourceInfo> sources;
  BuildOptions options;  ///< without `out`
  SkippedLines skipped;  ///< of all sources; the file does not hold its `first`
};

/// Tokenises the files' documents: BOS before each, no EOS. Shards are written atomically and the manifest
/// last; the bytes depend on input, tokenizer and options only, not on the number of threads. Throws an input
/// error for a vocabulary over 65,535, no documents, a folder that already holds shards of this prefix, bad
/// documents.
Manifest build_shards(const std::vector<std::filesystem::path>& files, const text::Tokenizer& tokenizer,
                      const BuildOptions& options, base::ThreadPool& pool, base::ProgressSink& progress,
                      std::stop_token stop = {});

std::string manifest_json(const Manifest& manifest);
Manifest parse_manifest(const std::string& json, const std::string& name);
/// The manifest beside the shards, or nothing when there is none (official shards).
std::optional<Manifest> find_manifest(const std::filesystem::path& shard);
/// Documents that begin in a shard: its ids that are `bos`, or, without one, the <s> of the manifest that
/// lists the shard. Nothing when there is neither: which id begins a document is then unknown.
std::optional<std::uint64_t> count_documents(const ShardReader& shard, std::optional<std::int32_t> bos = {});
/// Throws an input error when the shards were made with another tokenizer.
void check_tokenizer(const Manifest& manifest, const text::Tokenizer& tokenizer, const std::string& name);

/// Documents straight to tokens in memory (BOS before each), on all cores. For the demo, tests and small
/// texts. `begins`: where each document's BOS stands.
std::vector<std::uint16_t> tokenize_documents(const std::vector<Document>& documents,
                                              const text::Tokenizer& tokenizer, base::ThreadPool& pool,
                                              std::vector<std::int64_t>* begins = nullptr);

}  // namespace fairway::data
