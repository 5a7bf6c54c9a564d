#pragma once
// Bits per byte of a model over a text, through the score ledger.

#include "fairway/exec/window_programs.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/pipeline/stages/corpus.h"

namespace fairway::pipeline {

/// Memory on the engine's device that scoring of plain windows takes.
std::size_t scoring_bytes(const model::ModelConfig& config, const exec::Engine& engine);

/// The byte table that score.rule names. Input errors as text::make_byte_table.
text::ByteTable score_bytes(const ScoreConfig& options, const text::Tokenizer& tokenizer, int vocab_size);
/// Of `tokens`, which it is to be asked about and nothing else.
score::ByteCounter byte_counter(const text::ByteTable& table, std::span<const std::uint16_t> tokens);
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
