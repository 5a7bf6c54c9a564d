#pragma once
// Training a tokenizer of ours from text.

#include <cstdint>
#include <functional>
#include <string>
#include <string_view>
#include <vector>

#include "fairway/text/tokenizer.h"

namespace fairway::text {

enum class ModelType { bpe, unigram };

struct TrainTokenizerOptions {
  std::int32_t vocab_size = 1024;  ///< 4 special, 256 byte pieces, then characters and merges
  ModelType type = ModelType::bpe;
  double character_coverage = 0.999;    ///< share of characters that get pieces; the rest falls back to bytes
  std::uint64_t max_bytes = 256 << 20;  ///< text used at most; documents beyond it are not read
  std::int32_t max_piece_length = 16;   ///< characters
  bool case_operators = false;  ///< words in lower case behind operators: Transform::caseops_lossless_v1
  bool fuse_markers = false;    ///< with case_operators: one that follows a space holds it (U+E005, U+E006)
  bool split_digits = true;     ///< every digit on its own, as in the challenge's tokenizers
};

/// Fills `document` and returns true, or returns false at the end.
using DocumentSource = std::function<bool(std::string& document)>;

/// Trains a lossless tokenizer (Transform::lossless_v1, or with case operators as pieces 4 to 7, fused 4 to
/// 9): identity normalisation, no dummy prefix, white space kept, byte fallback, ids 0-3 = <pad>, <s>, </s>,
/// <unk>. The same documents and options give the same bytes, whatever the machine's number of cores. The
/// space is always in the vocabulary; that the tokenizer gives the hostile text and every document back is
/// tried before it is returned. Throws an input error when there is no text, when it is not UTF-8 or when the
/// vocabulary is too large or too small for it.
Tokenizer train_tokenizer(const DocumentSource& documents, const TrainTokenizerOptions& options = {});
Tokenizer train_tokenizer(const std::vector<std::string_view>& documents,
                          const TrainTokenizerOptions& options = {});

}  // namespace fairway::text
