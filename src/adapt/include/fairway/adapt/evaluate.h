#pragma once
// Runs a protocol over a text: scores go through the ledger, text reaches the optimiser through the gate.

#include <cmath>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "fairway/adapt/protocol.h"
#include "fairway/dist/communicator.h"
#include "fairway/exec/engine.h"
#include "fairway/model/family.h"
#include "fairway/score/score.h"

namespace fairway::adapt {

/// What happens when the evaluation takes longer than it may.
enum class Budget {
  report,   ///< the result says so
  enforce,  ///< too long a forecast is an input error, running over a failure
};

struct EvaluateOptions {
  score::ByteCounter count;  ///< bytes of a target; needed
  std::string byte_rule = "challenge";
  score::TextSource text = {};  ///< what counted bytes are held against; without it no score is valid
  int stride = 0;               ///< of the final or the chunks' scores; 0: windows side by side
  score::Tail tail = score::Tail::clean;
  double ppm_weight = 0;      ///< part of a count model in each entered distribution (score/ppm.h)
  double budget_seconds = 0;  ///< 0: none
  Budget budget = Budget::enforce;
  dist::Communicator* ranks = nullptr;  ///< null: one rank

  // What a verification asks for.
  bool keep_scores = false;  ///< nats of each target, in the result
  /// Stop as soon as the ledger has entered targets 0 ... n - 1.
  std::optional<std::int64_t> until = std::nullopt;
  int audit_windows = 0;  ///< so many scored windows have their whole distributions summed
};

/// What one phase or one trajectory did.
struct TrainingResult {
  std::string what;                           ///< "phase 1", "pass 2"
  std::int64_t parameters = 0, elements = 0;  ///< trained
  std::int64_t steps = 0, windows = 0;        ///< optimiser steps, windows trained on
  std::vector<double> loss;                   ///< mean while training, by epoch (before) or by shard
  std::vector<double> learning_rate;          ///< at the first step of each of them
  double seconds = 0;
};

/// Distributions of audited windows, summed in fp64.
struct AuditResult {
  std::int64_t distributions = 0;
  double worst = 0;  ///< largest |sum - 1|; NaN as soon as one sum is
  void add(double error) {
    ++distributions;
    if (error > worst || std::isnan(error)) worst = error;  // std::max would let a NaN pass
  }
};

/// How far the distribution that a score belongs to is from summing to 1: with logits l and `nll` of target
/// t, log p_v = -nll + l_v - l_t.
double distribution_error(float nll, std::span<const float> logits, std::int32_t target);

struct EvaluateResult {
  score::ScoreResult score;  ///< with the verdict
  std::vector<TrainingResult> training;
  double train_seconds = 0, score_seconds = 0;
  double forecast_seconds = 0;
  bool over_budget = false;
  std::int64_t tokens_trained = 0;
  // For a verification.
  std::vector<float> nll;                                     ///< by target; NaN where none (keep_scores)
  std::vector<score::CommitRun> order;                        ///< of commitment
  std::int64_t repeats = 0, missing = 0;                      ///< targets scored again, never scored
  std::int64_t learnt_committed = 0, learnt_uncommitted = 0;  ///< targets through each door, repeats counted
  AuditResult audit;
};

/// Throws base::Error: input errors for a text that is too short, a selection that fits nothing, a forecast
/// beyond an enforced budget; failures for a loss or gradient that is not finite; `interrupted` between
/// batches on a stop request. `weights` stay as they are.
EvaluateResult evaluate(const Protocol& protocol, const model::ModelConfig& config,
                        const graph::ParameterStore& weights, const exec::Engine& engine,
                        score::TokenView tokens, const EvaluateOptions& options);

}  // namespace fairway::adapt
