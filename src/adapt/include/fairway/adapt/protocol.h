#pragma once
// A test-time-training protocol as plain data: which parameters, which optimiser and schedule, which text in
// which order, what is restored, how scores combine (docs/spec/ttt.md).

#include <cstdint>
#include <string>
#include <vector>

#include "fairway/optim/update_rule.h"
#include "fairway/score/combine.h"

namespace fairway::adapt {

enum class When {
  never,             ///< the score alone
  train_then_score,  ///< epochs over the whole text, then its score: not a code length
  score_first,       ///< each chunk after its score
};
constexpr auto names_of(When) { return base::names<When>("never", "before", "streaming"); }

/// What the learning rate is multiplied by: 1, or (1 + cos(pi x)) / 2 with x ...
enum class Schedule {
  constant,
  cosine_epoch,  ///< e / E: constant within an epoch; the last one is not 0
  cosine_pass,   ///< b / B over the chunks of a pass (streaming) or the batches of an epoch (before)
  cosine_steps,  ///< s / S over all steps
};
constexpr auto names_of(Schedule) {
  return base::names<Schedule>("constant", "cosine_epoch", "cosine_pass", "cosine_steps");
}

enum class Order { natural, permuted };
constexpr auto names_of(Order) { return base::names<Order>("natural", "permuted"); }

/// How virtual ranks share the text (docs/spec/ttt.md sections 3 to 6).
enum class Shards {
  /// Whole windows: rank r of R owns windows floor(n r / R) ... floor(n (r + 1) / R) - 1.
  windows,
  /// As pull requests 518 and 573: each rank owns C = floor(U / R) targets, so that shards may be offset
  /// against the windows of the text; batches start while start < C - S, the rest of a shard is dropped, and
  /// schedules count floor((C - S) / batch) steps where one more is made.
  targets,
};
constexpr auto names_of(Shards) { return base::names<Shards>("windows", "targets"); }

/// One stretch of training with a fresh optimiser.
struct Phase {
  /// What is trained: "all", "scales" (attn_scale, mlp_scale, resid_mix), "tables", "matrices", "scalars",
  /// "last:K" (everything of the last K blocks), or a parameter's name with '*' for any characters.
  std::vector<std::string> train = {"all"};
  optim::UpdateRule rule;
  double grad_clip = 0.0;  ///< largest norm over all that is trained; 0: none
  double lr = 5e-4;
  std::vector<std::string> lr_groups;  ///< "PATTERN=FACTOR"; the first that fits counts, others have factor 1
  Schedule schedule = Schedule::constant;
  int epochs = 1;  ///< over the text (before), over each chunk (streaming)
};

struct Protocol {
  When when = When::score_first;
  std::vector<Phase> phases = {Phase{}};  ///< one after the other; streaming has one
  /// Part of the algorithm, not of its execution: decides shards, batches and how gradients are weighted.
  int virtual_ranks = 1;
  int batch_windows = 4;  ///< windows of each virtual rank in a step
  int chunk_windows = 4;  ///< streaming: windows scored before they are trained on
  Order order = Order::natural;
  Shards shards = Shards::windows;
  /// Streaming: one trajectory for each entry, all from the artifact's weights; its learning rate is
  /// multiplied by the entry (0: never trained).
  std::vector<double> pass_lr = {1.0};
  /// Pass k begins at chunk floor(chunks k / passes) and wraps around; the weights are then no longer a
  /// function of earlier text.
  bool rotate = false;
  score::Combination combination = score::Combination::single;
  std::vector<double> mixture_weights;  ///< in proportion; empty: equal
  bool fake_quantize = false;  ///< training sees int6 matrices, scoring does not (docs/spec/ttt.md section 2)
  tensor::DType tables =
      tensor::DType::f32;     ///< what they are stored in; in bf16 operations are rounded, too
  std::uint64_t seed = 1337;  ///< of the permutations
};

/// Input errors for combinations that mean nothing; `adapt.KEY` as the recipe calls things.
void validate(const Protocol& protocol);

/// Where a step stands.
struct Position {
  std::int64_t epoch = 0, epochs = 1;  ///< of the phase, or of the chunk
  std::int64_t index = 0, count = 1;   ///< chunk in its pass, or batch in its epoch
  std::int64_t step = 0, steps = 1;    ///< over the whole phase or pass; `steps` as the schedule counts them
};
double lr_scale(Schedule schedule, const Position& position);

}  // namespace fairway::adapt
