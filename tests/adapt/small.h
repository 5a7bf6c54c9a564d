#pragma once
// A model and a text of a second's work.

#include "exec/small.h"
#include "fairway/adapt/evaluate.h"
#include "fairway/base/error.h"
#include "fairway/base/random.h"

#include <cstring>
#include <string>
#include <vector>

namespace fairway::adapt::testing {

using exec::testing::small_config, exec::testing::with_threads;

inline const exec::Engine& engine() {
  static const exec::Engine two_threads(with_threads(2));
  return two_threads;
}

/// Initial weights with noise, so that no matrix is zero and every gradient is something.
inline graph::ParameterStore small_weights(const model::ModelConfig& config) {
  graph::ParameterStore store(model::make_layout(config), {}, false);
  model::initialise(store, 3, engine().pool());
  const base::Random noise(5, "noise");
  std::uint64_t i = 0;
  for (const auto& p : store.layout().parameters())
    for (auto& v : store.value(p.name).span<float>()) v += 0.05f * static_cast<float>(noise.normal(i++));
  for (const auto& p : store.layout().parameters())  // as the published systems keep them
    if (p.group == graph::Group::embedding)
      for (auto& v : store.value(p.name).span<float>()) v = tensor::round_to_bf16(v);
  return store;
}

/// `n` tokens that repeat themselves with mistakes, so that there is something to learn.
inline std::vector<std::int32_t> small_text(std::int64_t n) {
  const base::Random random(11, "text");
  std::vector<std::int32_t> tokens;
  for (std::int64_t i = 0; i < n; ++i) {
    const auto at = static_cast<std::uint64_t>(i);
    const bool mistake = random.below(2 * at, 8) == 0;
    tokens.push_back(mistake ? static_cast<std::int32_t>(random.below(2 * at + 1, 48))
                             : static_cast<std::int32_t>((i * i + i / 7) % 23));
  }
  return tokens;
}

inline EvaluateOptions small_options(int stride, score::Tail tail) {
  EvaluateOptions options;
  options.count = [](const score::TokenView& tokens, std::int64_t t) { return tokens[t + 1] % 3 + 1; };
  options.text = [](std::int64_t targets) { return score::TextReference{{{0, 3 * targets}}}; };
  options.stride = stride;
  options.tail = tail;
  options.keep_scores = true;
  return options;
}

inline EvaluateResult evaluate_small(const Protocol& protocol, const std::vector<std::int32_t>& tokens,
                                     const EvaluateOptions& options) {
  const auto config = small_config();
  const auto weights = small_weights(config);
  return evaluate(protocol, config, weights, engine(), std::span<const std::int32_t>(tokens), options);
}

// The four published protocols, small.

inline Protocol two_phase(int ranks) {
  Protocol p;
  p.when = When::train_then_score;
  p.virtual_ranks = ranks;
  p.batch_windows = 2;
  p.order = Order::permuted;
  p.fake_quantize = true;
  p.tables = tensor::DType::bf16;
  Phase first;
  first.train = {"scales"};
  first.rule.kind = optim::RuleKind::adam;
  first.lr = 0.01;
  first.schedule = Schedule::cosine_epoch;
  first.epochs = 3;
  Phase second;
  second.train = {"last:1", "scales", "tok_emb.weight"};
  second.rule.kind = optim::RuleKind::sgd;
  second.lr = 0.05;
  second.schedule = Schedule::cosine_epoch;
  second.epochs = 2;
  p.phases = {first, second};
  return p;
}

inline Protocol full_sgd(int ranks) {
  Protocol p;
  p.when = When::train_then_score;
  p.virtual_ranks = ranks;
  p.batch_windows = 3;
  p.tables = tensor::DType::bf16;
  auto& phase = p.phases[0];
  phase.rule.kind = optim::RuleKind::sgd;
  phase.grad_clip = 1.0;
  phase.lr = 0.02;
  phase.epochs = 3;
  return p;
}

inline Phase published_adamw() {
  Phase phase;
  phase.grad_clip = 1.0;
  phase.lr = 1e-3;
  phase.lr_groups = {"*.mlp.proj.weight=3", "*.mlp.fc.weight=0.5"};
  return phase;
}

inline Protocol streaming_minimum(int ranks) {
  Protocol p;
  p.virtual_ranks = ranks;
  p.batch_windows = p.chunk_windows = 1;
  p.shards = Shards::targets;
  p.pass_lr = {0, 1, 1};
  p.rotate = true;
  p.combination = score::Combination::minimum;
  p.fake_quantize = true;
  p.tables = tensor::DType::bf16;
  p.phases = {published_adamw()};
  p.phases[0].schedule = Schedule::cosine_pass;
  return p;
}

inline Protocol cosine_adamw(int ranks) {
  Protocol p;
  p.when = When::train_then_score;
  p.virtual_ranks = ranks;
  p.batch_windows = 2;
  p.shards = Shards::targets;
  p.fake_quantize = true;
  p.tables = tensor::DType::bf16;
  p.phases = {published_adamw()};
  p.phases[0].schedule = Schedule::cosine_steps;
  p.phases[0].epochs = 3;
  return p;
}

}  // namespace fairway::adapt::testing
