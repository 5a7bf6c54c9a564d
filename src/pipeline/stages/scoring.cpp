#include "fairway/pipeline/stages/scoring.h"

#include "fairway/base/error.h"
#include "fairway/exec/micro_batch.h"

#include <algorithm>

namespace fairway::pipeline {

std::size_t scoring_bytes(const model::ModelConfig& config, const exec::Engine& engine) {
  const int rows = exec::rows_for(exec::full_rate_tokens(engine.device()), config.window);
  const auto weights = static_cast<std::size_t>(model::make_layout(config).padded_elements()) * sizeof(float);
  return exec::planned_bytes(config, engine, tensor::DType::f32, {.mode = model::Mode::score, .rows = rows}) +
         2 * weights;  // a copy, and one that is rounded
}

text::ByteRule byte_rule(const ScoreConfig& options, const text::Tokenizer& tokenizer,
                         const ScoredText& text) {
  const auto rule = options.rule.value_or(text::default_byte_rule(tokenizer));
  if (rule != text::ByteRule::surface || !text.surface.empty() || text.tokens.empty()) return rule;
  if (options.rule)
    base::fail_input(
        "score.rule = \"surface\": {}; take \"auto\"",
        text.text.empty()
            ? "there are no byte counts (_bytes_NUMBER.bin) beside the shards"
            : "it is for tokenizers with case operators, and for shards with byte counts beside them");
  return text::ByteRule::challenge;
}

TokenBytes token_bytes(const ScoreConfig& options, const text::Tokenizer& tokenizer, int vocab_size,
                       const ScoredText& text, std::span<const std::uint16_t> tokens) {
  const auto rule = byte_rule(options, tokenizer, text);
  if (rule != text::ByteRule::surface)
    return {rule, text::make_byte_table(tokenizer, rule, vocab_size).counts(tokens)};
  base::check(tokens.size() <= text.surface.size(), "bytes of {} tokens of {}", tokens.size(),
              text.surface.size());
  TokenBytes bytes{rule, {text.surface.begin(), text.surface.begin() + std::ssize(tokens)}};
  if (!bytes.counts.empty()) bytes.counts.front() = 0;
  return bytes;
}

score::ByteCounter TokenBytes::counter() const {
  return [counts = counts](const score::TokenView&, std::int64_t t) {
    return counts[static_cast<std::size_t>(t) + 1];
  };
}

void note_byte_rule(text::ByteRule rule, const text::Tokenizer& tokenizer, score::Verdict& verdict) {
  if (rule != text::ByteRule::challenge || tokenizer.denormalises() ||
      std::ranges::find(verdict.broken, score::Condition::text_bytes) == verdict.broken.end())
    return;
  verdict.notes.push_back(
      "the published table counts more for this tokenizer's pieces than they decode to; score.rule = "
      "\"exact\" (--rule exact) counts what they decode to");
}

std::span<const std::uint16_t> scored_tokens(const ScoreConfig& options, const ScoredText& text) {
  const std::span<const std::uint16_t> all = text.tokens;
  const auto limit = static_cast<std::size_t>(options.tokens);
  return limit > 0 && limit + 1 < all.size() ? all.first(limit + 1) : all;
}

score::ScoreResult score_text(exec::WindowPrograms& scorer, const text::Tokenizer& tokenizer,
                              const ScoredText& text, const ScoreConfig& options, int stride) {
  auto& runner = scorer.runner();
  const auto& config = runner.config();
  const auto tokens = scored_tokens(options, text);
  const auto bytes = token_bytes(options, tokenizer, config.vocab_size, text, tokens);
  const auto plan = exec::plan_windows(config, tokens, stride, options.tail);
  for (const int length : plan.score_lengths()) scorer.add(length);
  runner.allocate();
  score::ScoreOptions score_options;
  score_options.byte_rule = std::string(base::name_of(bytes.rule));
  score_options.text = [&](std::int64_t targets) { return text.reference(tokenizer, bytes.rule, targets); };
  score_options.progress = &runner.engine().progress();
  score_options.stop = runner.engine().stop();
  if (stride > 0) {
    score_options.ppm_weight = options.ppm_weight;
    score_options.vocab_size = config.vocab_size;
  }
  auto result = score::score(plan, tokens, scorer, bytes.counter(), score_options);
  note_byte_rule(bytes.rule, tokenizer, result.verdict);
  return result;
}

score::ScoreResult score_text(const model::ModelConfig& config, graph::ParameterStore& weights,
                              const text::Tokenizer& tokenizer, const ScoredText& text,
                              const ScoreConfig& options, int stride, const exec::Engine& engine) {
  exec::ModelRunner runner(evaluated(config, options), weights, engine);
  exec::WindowPrograms scorer(runner);
  return score_text(scorer, tokenizer, text, options, stride);
}

}  // namespace fairway::pipeline
