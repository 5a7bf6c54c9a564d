#include "fairway/pipeline/stages/scoring.h"

#include "fairway/pipeline/model_programs.h"

#include <algorithm>
#include <map>

namespace fairway::pipeline {

struct ProgramScorer::State {
  State(const model::ModelConfig& config, graph::ParameterStore& weights, Engine& engine, ops::Products p)
      : programs_of(config, weights, engine, p) {}
  ModelPrograms programs_of;
  std::map<int, graph::Program*> programs;  ///< by scored length
  int rows = 1;
};

namespace {

model::BuildOptions score_options(const model::ModelConfig& config, Engine& engine, int last) {
  const int tokens = engine.device().is_cuda() ? 98'304 : 4096;  // enough for products at full rate
  auto build = engine.build_options(config);
  build.mode = model::Mode::score;
  build.rows = std::max(1, tokens / config.window);
  build.last = last;
  return build;
}

}  // namespace

ProgramScorer::ProgramScorer(const model::ModelConfig& config, graph::ParameterStore& weights,
                             const std::vector<std::int32_t>& lengths, Engine& engine, ops::Products products)
    : state_(std::make_unique<State>(config, weights, engine, products)) {
  for (const auto n : lengths) {
    const auto build = score_options(config, engine, n);
    state_->rows = build.rows;
    state_->programs[n] = &state_->programs_of.add(build);
  }
  state_->programs_of.allocate();
}

std::size_t ProgramScorer::planned_bytes(const model::ModelConfig& config, Engine& engine) {
  graph::ParameterStore nothing(model::make_layout(config), {}, false);
  graph::Plan plan(nothing, engine.runtime());
  plan.add(model::build(config, nothing.layout(), score_options(config, engine, config.window)));
  return plan.planned_bytes() + nothing.bytes();  // a copy, and one that is rounded
}

ProgramScorer::~ProgramScorer() = default;

int ProgramScorer::rows() const { return state_->rows; }

void ProgramScorer::score(std::span<const std::int32_t> inputs, std::span<const std::int32_t> targets,
                          int score_last, std::span<float> nll) {
  auto& program = *state_->programs.at(score_last);
  program.write("tokens", inputs);
  program.write("targets", targets);
  program.run();
  program.read("nll", nll);
}

text::ByteTable score_bytes(const ScoreConfig& options, const text::Tokenizer& tokenizer, int vocab_size) {
  const auto rule = options.rule.value_or(text::default_byte_rule(tokenizer));
  return text::make_byte_table(tokenizer, rule, vocab_size);
}

score::ByteCounter byte_counter(const text::ByteTable& table) {
  return [&table](std::int32_t target, std::int32_t previous) {
    return static_cast<std::int32_t>(
        table.count(static_cast<std::uint32_t>(target), static_cast<std::uint32_t>(previous)));
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

score::ScoreResult score_text(const model::ModelConfig& config, graph::ParameterStore& weights,
                              const text::Tokenizer& tokenizer, const ScoredText& text,
                              const ScoreConfig& options, int stride, Engine& engine) {
  const auto table = score_bytes(options, tokenizer, config.vocab_size);
  const auto tokens = scored_tokens(options, text);
  const auto n = static_cast<std::int64_t>(tokens.size());
  const int lead = config.memory_tokens, most = config.window - lead;
  const auto plan =
      stride > 0 ? score::WindowPlan::sliding(n, config.window, std::min(stride, most), options.tail, lead)
                 : score::WindowPlan::plain(n, config.window, options.tail, lead);
  ProgramScorer scorer(config, weights, plan.score_lengths(), engine);
  score::ScoreOptions score_options;
  score_options.byte_rule = std::string(base::name_of(table.rule));
  score_options.text = [&](std::int64_t targets) { return text.reference(tokenizer, targets); };
  score_options.progress = &engine.progress();
  score_options.stop = engine.stop();
  if (stride > 0) {
    score_options.ppm_weight = options.ppm_weight;
    score_options.vocab_size = config.vocab_size;
  }
  auto result = score::score(plan, tokens, scorer, byte_counter(table), score_options);
  note_byte_rule(table.rule, tokenizer, result.verdict);
  return result;
}

}  // namespace fairway::pipeline
