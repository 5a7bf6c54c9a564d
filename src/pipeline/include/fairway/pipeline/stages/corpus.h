#pragma once
// The text of a run: tokenizer, training stream, held-out documents.

#include "fairway/base/path.h"
#include "fairway/data/documents.h"
#include "fairway/data/loader.h"
#include "fairway/exec/engine.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/score/ledger.h"
#include "fairway/text/byte_table.h"
#include "fairway/text/tokenizer.h"

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace fairway::pipeline {

/// One file of a split, or a text of the program.
struct SourceFile {
  std::string name;                  ///< without its folder, UTF-8
  std::optional<base::FileId> file;  ///< none: not a file
  std::uint64_t hash = 0;            ///< of the documents, or of the shard
  std::uint64_t documents = 0, text_bytes = 0;
  std::uint64_t tokens = 0;         ///< of a shard
  std::uint64_t skipped_lines = 0;  ///< bad ones, where the recipe allows them
  bool empty() const { return text_bytes == 0 && tokens == 0; }
};

/// What tells documents apart.
struct DocumentKey {
  std::uint64_t hash = 0, bytes = 0;
};

/// Tokens to score, and the text that they are held against.
struct ScoredText {
  std::vector<std::uint16_t> tokens;           ///< BOS before each document
  std::vector<score::DocumentText> documents;  ///< whole; for shards by their BOS, with the bytes decoded
  std::string text;                            ///< the documents' bytes joined; empty for shards
  text::RoundTripReport round_trip;            ///< what the tokenizer's normalisation changes
  /// Bytes of each token by the rule `surface`, of the text as it was read: of documents where the tokenizer
  /// has case operators, of shards from their side-cars. Empty: not known.
  std::vector<std::uint16_t> surface;
  std::vector<SourceFile> sources;         ///< empty when held out of the training documents
  std::vector<DocumentKey> document_keys;  ///< empty for shards
  /// The documents behind the first `targets` targets, the last of them perhaps cut, for targets that are
  /// counted by `rule` (of shards, `surface` has nothing but the side-car to go by).
  score::TextReference reference(const text::Tokenizer& tokenizer, text::ByteRule rule,
                                 std::int64_t targets) const;
};

/// Documents ready for scoring.
ScoredText scored_documents(const std::vector<data::Document>& documents, const text::Tokenizer& tokenizer,
                            exec::Engine& engine);

struct Corpus {
  text::Tokenizer tokenizer;
  data::TokenStream train;
  ScoredText validation;
  std::string
      train_text;  ///< the training documents joined, when they are text (for the compressors to learn from)
  std::string
      manifest;  ///< JSON: sources, documents, tokens, bytes, hashes; notes on text that is read twice
  double tokenizer_seconds = 0;  ///< training it
};

/// Reads, splits and tokenises what the recipe names; trains the tokenizer when the recipe asks for that.
/// Throws input errors naming file and key.
Corpus prepare_corpus(const Recipe& recipe, exec::Engine& engine);

/// Documents of text files, or the tokens of shards, ready for scoring. `patterns` as in data.train.
ScoredText read_scored_text(const std::vector<std::string>& patterns, const DataConfig& config,
                            const text::Tokenizer& tokenizer, int vocab_size, exec::Engine& engine);

/// True when the pattern names token shards (.bin).
bool is_shard_pattern(std::string_view pattern);

}  // namespace fairway::pipeline
