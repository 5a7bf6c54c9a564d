// The keys of [adapt]: test-time training.

#include "recipe/published.h"

namespace fairway::pipeline {
namespace {

/// Rules of the optimisers that test-time training offers.
auto update_rules() {
  static constexpr auto all =
      names_of(optim::RuleKind{});  // Muon, the first, has no learning rate of its own here
  return std::span(all).subspan(1);
}

template <std::size_t Index>
adapt::Phase& phase(adapt::Protocol& protocol) {
  return protocol.phases[Index];
}

/// One phase of test-time training; `name` is "adapt." or "adapt.then.".
template <auto Phase>
void add_adapt_phase(std::vector<RecipeKey>& keys, const std::string& name) {
  using P = adapt::Phase;
  using O = optim::UpdateRule;
  constexpr auto o = &P::rule;
  constexpr auto a = &Recipe::adapt;
  auto more = {
      text<a, Phase, &P::train>(name + "train",
                                "what is trained: all, scales (attn_scale, mlp_scale, resid_mix), tables, "
                                "matrices, scalars, last:K (blocks), or names with * for any characters"),
      choice_of<&update_rules, a, Phase, o, &O::kind>(name + "optimizer", "the update rule"),
      number<a, Phase, &P::lr>(name + "lr", {0, 1e6}, "learning rate"),
      text<a, Phase, &P::lr_groups>(name + "lr_groups",
                                    "PATTERN=FACTOR on the learning rate, the first that fits: "
                                    "\"*.mlp.proj.weight=3\""),
      number<a, Phase, o, &O::beta1>(name + "beta1", {0, 0.99999}, "adamw and adam"),
      number<a, Phase, o, &O::beta2>(name + "beta2", {0, 0.9999999}, "adamw and adam"),
      number<a, Phase, o, &O::eps>(name + "eps", {1e-30, 1}, "adamw and adam"),
      number<a, Phase, o, &O::weight_decay>(name + "weight_decay", {0, 10}, "adamw: decoupled; adam: not"),
      number<a, Phase, o, &O::momentum>(name + "momentum", {0, 0.99999}, "sgd"),
      number<a, Phase, &P::grad_clip>(name + "clip", {0, 1e9},
                                      "largest norm of the whole gradient; 0: no clipping"),
      choice<a, Phase, &P::schedule>(name + "schedule",
                                     "learning rate: constant, or cosine by epochs, by chunks of a pass "
                                     "(batches of an epoch), by all steps"),
      number<a, Phase, &P::epochs>(name + "epochs", {0, 1e6},
                                   name == "adapt." ? "epochs over the text (before) or over each chunk "
                                                      "(streaming)"
                                                    : "before: epochs of a second phase; 0: none"),
  };
  keys.insert(keys.end(), more);
}

}  // namespace

void add_adapt_keys(std::vector<RecipeKey>& keys) {
  using A = adapt::Protocol;
  constexpr auto a = &Recipe::adapt;
  keys.push_back(choice<a, &A::when>("adapt.when",
                                     "test-time training: before the score (not a code length), or on each "
                                     "chunk after its score"));
  add_adapt_phase<&phase<0>>(keys, "adapt.");
  auto more = {
      number<a, &A::virtual_ranks>(
          "adapt.virtual_ranks", {1, 1024},
          "shards and batches as on so many GPUs (8 as published), whatever runs them"),
      number<a, &A::batch_windows>("adapt.batch_windows", {1, 65536},
                                   "windows of each virtual rank in a step"),
      number<a, &A::chunk_windows>("adapt.chunk_windows", {1, 65536},
                                   "streaming: windows scored before they are trained on"),
      choice<a, &A::order>("adapt.order",
                           "before: windows in the text's order, or permuted anew for each epoch"),
      published::shards(),
      number<a, &A::pass_lr>("adapt.pass_lr", {0, 1e6},
                             "streaming: one model for each entry, its factor on the learning rate (0: not "
                             "trained)"),
      published::rotate(),
      published::combine(),
      number<a, &A::mixture_weights>("adapt.mixture_weights", {0, 1e6},
                                     "mixture: weights in proportion; empty: equal"),
      flag<a, &A::fake_quantize>(
          "adapt.fake_quantize",
          "training sees int6 matrices, scoring does not, as pull requests 417, 518, 573"),
      choice<a, &A::tables>(
          "adapt.tables", "embedding tables while adapting; bf16 rounds after every operation as published"),
  };
  keys.insert(keys.end(), more);
  add_adapt_phase<&phase<1>>(keys, "adapt.then.");
}

}  // namespace fairway::pipeline
