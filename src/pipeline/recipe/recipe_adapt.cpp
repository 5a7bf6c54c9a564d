#include "fairway/pipeline/recipe/recipe.h"

namespace fairway::pipeline {
namespace {

adapt::Phase phase_of(const AdaptPhaseConfig& c) {
  adapt::Phase phase;
  phase.train = c.train;
  phase.rule.kind = c.optimizer == "sgd"    ? optim::RuleKind::sgd
                    : c.optimizer == "adam" ? optim::RuleKind::adam
                                            : optim::RuleKind::adamw;
  phase.rule.beta1 = c.beta1;
  phase.rule.beta2 = c.beta2;
  phase.rule.eps = c.eps;
  phase.rule.weight_decay = c.weight_decay;
  phase.rule.momentum = c.momentum;
  phase.grad_clip = c.clip;
  phase.lr = c.lr;
  phase.lr_groups = c.lr_groups;
  phase.schedule = c.schedule == "cosine_epoch"   ? adapt::Schedule::cosine_epoch
                   : c.schedule == "cosine_pass"  ? adapt::Schedule::cosine_pass
                   : c.schedule == "cosine_steps" ? adapt::Schedule::cosine_steps
                                                  : adapt::Schedule::constant;
  phase.epochs = c.epochs;
  return phase;
}

}  // namespace

adapt::Protocol protocol(const Recipe& recipe) {
  const auto& a = recipe.adapt;
  adapt::Protocol p;
  p.seed = static_cast<std::uint64_t>(recipe.seed);
  if (a.when == "never") {
    p.when = adapt::When::before;
    p.phases[0].epochs = 0;
    return p;
  }
  p.when = a.when == "before" ? adapt::When::before : adapt::When::streaming;
  p.phases = {phase_of(a.first)};
  if (a.then.epochs > 0) p.phases.push_back(phase_of(a.then));
  p.virtual_ranks = a.virtual_ranks;
  p.batch_windows = a.batch_windows;
  p.chunk_windows = a.chunk_windows;
  p.order = a.order == "permuted" ? adapt::Order::permuted : adapt::Order::natural;
  p.shards = a.shards == "targets" ? adapt::Shards::targets : adapt::Shards::windows;
  p.pass_lr = a.pass_lr;
  p.rotate = a.rotate;
  p.combination = a.combine == "mixture"   ? score::Combination::mixture
                  : a.combine == "minimum" ? score::Combination::minimum
                                           : score::Combination::single;
  p.mixture_weights = a.mixture_weights;
  p.fake_quantize = a.fake_quantize;
  p.tables = a.tables == "bf16" ? tensor::DType::bf16 : tensor::DType::f32;
  return p;
}

}  // namespace fairway::pipeline
