#pragma once
// Bits per byte of a model over a text, through the score ledger.

#include "fairway/exec/window_programs.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/pipeline/stages/corpus.h"

namespace fairway::pipeline {

/// Memory on the engine's device that scoring of plain windows takes.
std::size_t scoring_bytes(const model::ModelConfig& config, const exec::Engine& engine);

/// How many bytes of text tokens stand for.
struct TokenBytes {
  text::ByteRule rule = text::ByteRule::challenge;
  std::vector<std::int32_t> counts;  ///< of each token; of the first 0, for nothing predicts it
  /// Asked about these tokens and nothing else.
  score::ByteCounter counter() const;
};
/// Of `tokens`, the first ones of `text` (or as many others in their place: `surface` counts the text as it
/// was read), by score.rule; without one by the tokenizer's, or by `challenge` where that is `surface` and
/// the text is shards without side-cars. An input error for `surface` where nothing tells it; others as
/// text::make_byte_table.
TokenBytes token_bytes(const ScoreConfig& options, const text::Tokenizer& tokenizer, int vocab_size,
                       const ScoredText& text, std::span<const std::uint16_t> tokens);
/// The rule of these.
text::ByteRule byte_rule(const ScoreConfig& options, const text::Tokenizer& tokenizer,
                         const ScoredText& text);
/// Says what helps where the published table counts more bytes than the text has.
void note_byte_rule(text::ByteRule rule, const text::Tokenizer& tokenizer, score::Verdict& verdict);

/// The tokens of `text` that score.tokens leaves.
std::span<const std::uint16_t> scored_tokens(const ScoreConfig& options, const ScoredText& text);

/// Scores `text`; `stride` 0: plain windows, which take no count model (options.ppm_weight). Programs that
/// `scorer` lacks are added to it.
score::ScoreResult score_text(exec::WindowPrograms& scorer, const text::Tokenizer& tokenizer,
                              const ScoredText& text, const ScoreConfig& options, int stride);
/// The same with programs of its own.
score::ScoreResult score_text(const model::ModelConfig& config, graph::ParameterStore& weights,
                              const text::Tokenizer& tokenizer, const ScoredText& text,
                              const ScoreConfig& options, int stride, const exec::Engine& engine);

}  // namespace fairway::pipeline
