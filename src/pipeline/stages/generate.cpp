#include "fairway/pipeline/stages/generate.h"

#include "fairway/base/clock.h"
#include "fairway/base/random.h"
#include "fairway/text/stream_decoder.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace fairway::pipeline {

namespace {
constexpr int prefill_length = 32;  // a chunk of the prompt in one program run
}

struct Decoder::State {
  explicit State(exec::ModelRunner& r) : runner(r), config(r.config()) {
    const auto& c = config;
    if (c.memory_tokens > 0)
      base::fail_input("model.memory_tokens = {}: a model with memory tokens does not generate text",
                       c.memory_tokens);
    for (const int length : {1, prefill_length}) {
      if (length > c.window) continue;
      (length == 1 ? single : chunk) = &runner.add({.mode = model::Mode::decode, .length = length});
    }
    runner.allocate();
    logits.resize(static_cast<std::size_t>(c.vocab_size));
  }

  void reset() {
    seen.clear();
    if (config.smear || config.smear_channels) runner.zero_state(model::previous_norm_state);
  }

  /// Reads tokens that fit into the cache.
  std::span<const float> read(std::span<const std::int32_t> tokens) {
    runner.prepare();
    while (!tokens.empty()) {
      const bool whole = chunk && tokens.size() >= prefill_length;
      auto& program = whole ? *chunk : *single;
      const auto part = tokens.first(whole ? prefill_length : 1);
      program.write("tokens", part);
      program.fill("length", static_cast<std::int32_t>(seen.size()));
      if (program.has("previous")) program.fill("previous", seen.empty() ? -1 : seen.back());
      program.run();
      seen.insert(seen.end(), part.begin(), part.end());
      tokens = tokens.subspan(part.size());
      if (tokens.empty()) program.read("logits", std::span(logits));
    }
    return logits;
  }

  exec::ModelRunner& runner;
  const model::ModelConfig& config;
  std::vector<float> logits;
  graph::Program *single = nullptr, *chunk = nullptr;
  std::vector<std::int32_t> seen;  ///< what the cache holds
};

Decoder::Decoder(exec::ModelRunner& runner) : state_(std::make_unique<State>(runner)) { reset(); }
Decoder::~Decoder() = default;

exec::ModelRunner& Decoder::runner() const { return state_->runner; }

void Decoder::reset() { state_->reset(); }

std::span<const float> Decoder::feed(std::span<const std::int32_t> tokens) {
  auto& s = *state_;
  base::check(!tokens.empty(), "nothing to read");
  if (s.config.documents) {  // attention does not look behind the last document's beginning
    const auto begin = std::ranges::find(tokens.rbegin(), tokens.rend(), s.config.bos_id);
    if (begin != tokens.rend()) {
      s.reset();
      tokens = tokens.last(static_cast<std::size_t>(begin - tokens.rbegin()) + 1);
    }
  }
  const auto capacity = static_cast<std::size_t>(s.config.window);
  if (s.seen.size() + tokens.size() <= capacity) return s.read(tokens);
  // Positions are the window's: a full cache starts over from the last half window of text.
  std::vector<std::int32_t> text = s.seen;
  text.insert(text.end(), tokens.begin(), tokens.end());
  const auto keep = std::min(text.size(), std::max<std::size_t>(1, capacity / 2));
  s.reset();
  return s.read(std::span(text).last(keep));
}

namespace {

/// One token from softmax(logits / temperature) over the k most likely; ties by lower id.
std::int32_t sample(std::span<const float> logits, const GenerateOptions& o, const base::Random& random,
                    std::uint64_t index) {
  std::vector<std::int32_t> order(logits.size());
  std::iota(order.begin(), order.end(), 0);
  const auto k = o.temperature <= 0 ? 1
                 : o.top_k > 0      ? std::min<std::size_t>(static_cast<std::size_t>(o.top_k), order.size())
                                    : order.size();
  std::partial_sort(
      order.begin(), order.begin() + static_cast<std::ptrdiff_t>(k), order.end(), [&](auto a, auto b) {
        const float x = logits[static_cast<std::size_t>(a)], y = logits[static_cast<std::size_t>(b)];
        return x != y ? x > y : a < b;
      });
  if (k == 1) return order.front();
  std::vector<double> sums;
  double total = 0;
  for (std::size_t i = 0; i < k; ++i) {
    const double gap = static_cast<double>(logits[static_cast<std::size_t>(order[i])]) -
                       logits[static_cast<std::size_t>(order.front())];
    sums.push_back(total += std::exp(gap / o.temperature));
  }
  const double target = random.uniform(index) * total;
  const auto hit = std::upper_bound(sums.begin(), sums.end(), target) - sums.begin();
  return order[std::min(static_cast<std::size_t>(hit), k - 1)];
}

}  // namespace

Generated generate(const OpenModel& model, const GenerateOptions& options, Decoder& decoder) {
  if (!(options.temperature >= 0 && std::isfinite(options.temperature)))
    base::fail_input("--temperature {}: must be a number that is not negative", options.temperature);
  if (options.top_k < 0) base::fail_input("--top-k {}: must not be negative (0: all)", options.top_k);
  if (options.tokens < 1) base::fail_input("--tokens {}: must be positive", options.tokens);
  const auto bos = model.tokenizer.bos_id();
  std::vector<std::int32_t> prompt, ids;
  if (bos >= 0) prompt.push_back(bos);
  if (!options.prompt.empty()) ids = model.tokenizer.encode(options.prompt, "--prompt");
  prompt.insert(prompt.end(), ids.begin(), ids.end());
  if (prompt.empty()) base::fail_input("the tokenizer has no <s>; give a --prompt to start from");

  decoder.reset();
  const base::Random random(options.seed, "sample");
  text::StreamDecoder text(model.tokenizer, options.prompt, ids);
  const auto show = [&](const std::string& part) {
    if (options.on_text && !part.empty()) options.on_text(part);
  };
  Generated result;
  auto logits = decoder.feed(prompt);
  // A model may have rows for more pieces than there are.
  const auto pieces = std::min(logits.size(), static_cast<std::size_t>(model.tokenizer.vocab_size()));
  base::Stopwatch watch;
  for (int i = 0; i < options.tokens; ++i) {
    decoder.runner().engine().throw_if_stopped();
    logits = logits.first(pieces);
    if (!std::ranges::all_of(logits, [](float v) { return std::isfinite(v); }))
      base::fail("{}: the model's predictions are not finite; its weights are damaged", model.source);
    const auto next = sample(logits, options, random, static_cast<std::uint64_t>(i));
    if (next == bos) break;
    result.tokens.push_back(next);
    show(text.add(next));
    if (i + 1 < options.tokens) logits = decoder.feed(std::span(&next, 1));
  }
  show(text.finish());
  result.text = text.text();
  result.tokens_per_second = static_cast<double>(result.tokens.size()) / std::max(1e-9, watch.seconds());
  return result;
}

Generated generate(const OpenModel& model, const GenerateOptions& options, const exec::Engine& engine) {
  exec::ModelRunner runner(model.recipe.model, *model.weights, engine);
  Decoder decoder(runner);
  return generate(model, options, decoder);
}

}  // namespace fairway::pipeline
