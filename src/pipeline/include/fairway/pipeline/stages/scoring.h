#pragma once
// Bits per byte of a model over a text, through the score ledger.

#include "fairway/pipeline/engine.h"
#include "fairway/pipeline/recipe/recipe.h"
#include "fairway/pipeline/stages/corpus.h"
#include "fairway/score/score.h"

#include <memory>

namespace fairway::pipeline {

/// Runs windows through one program for each scored length.
class ProgramScorer final : public score::WindowScorer {
 public:
  /// `weights` and `engine` must outlive the scorer. `lengths`: values of WindowPlan::score_lengths().
  ProgramScorer(const model::ModelConfig& config, graph::ParameterStore& weights,
                const std::vector<std::int32_t>& lengths, Engine& engine,
                ops::Products products = ops::Products::f32);
  ~ProgramScorer() override;
  /// Memory on the engine's device that a scorer of plain windows would take.
  static std::size_t planned_bytes(const model::ModelConfig& config, Engine& engine);
  int rows() const override;
  void score(std::span<const std::int32_t> inputs, std::span<const std::int32_t> targets, int score_last,
             std::span<float> nll) override;

 private:
  struct State;
  std::unique_ptr<State> state_;
};

/// The byte table that score.rule names. Input errors as text::make_byte_table.
text::ByteTable score_bytes(const ScoreConfig& options, const text::Tokenizer& tokenizer, int vocab_size);
score::ByteCounter byte_counter(const text::ByteTable& table);  ///< the table must outlive it
/// Says what helps where the published table counts more bytes than the text has.
void note_byte_rule(text::ByteRule rule, const text::Tokenizer& tokenizer, score::Verdict& verdict);

/// The tokens of `text` that score.tokens leaves.
std::span<const std::uint16_t> scored_tokens(const ScoreConfig& options, const ScoredText& text);

/// Scores `text`; `stride` 0: plain windows, which take no count model (options.ppm_weight).
score::ScoreResult score_text(const model::ModelConfig& config, graph::ParameterStore& weights,
                              const text::Tokenizer& tokenizer, const ScoredText& text,
                              const ScoreConfig& options, int stride, Engine& engine);

}  // namespace fairway::pipeline
