#pragma once
// What both kinds of protocol share: one text, one ledger, one model, the clock.

#include <deque>
#include <functional>
#include <memory>
#include <optional>
#include <set>
#include <vector>

#include "fairway/adapt/adapted_model.h"
#include "fairway/adapt/evaluate.h"
#include "fairway/adapt/text_plan.h"
#include "fairway/base/clock.h"
#include "fairway/score/ledger.h"
#include "fairway/score/ppm.h"
#include "fairway/score/seen_targets.h"
#include "fairway/score/window_runner.h"

namespace fairway::adapt {

/// How often each program will run.
struct Work {
  struct Training {
    double steps = 0, batches = 0;  ///< of train_rows() windows
  };
  std::vector<Training> training;               ///< by phase
  std::vector<std::pair<int, double>> scoring;  ///< scored length, calls
  std::int64_t windows = 0;                     ///< scored in all, for the audit
};

class Evaluation {
 public:
  Evaluation(const Protocol& protocol, const model::ModelConfig& config, const graph::ParameterStore& weights,
             const exec::Engine& engine, score::TokenView tokens, const EvaluateOptions& options,
             const score::WindowPlan& windows, std::int64_t train_windows, std::int64_t score_windows);

  const Protocol& protocol() const { return protocol_; }
  AdaptedModel& model() { return model_; }
  score::TextGate& gate() { return gate_; }
  const Selection& selection(int phase) const { return selections_[static_cast<std::size_t>(phase)]; }
  dist::Communicator& ranks() { return *ranks_; }

  /// Times some of the work; throws when an enforced budget cannot be kept.
  void forecast(const Work& work);

  /// One optimiser step: gradients are the mean over the ranks of each rank's mean. The lessons come from
  /// the gate, rank by rank.
  struct RankLessons {
    int rank = 0;
    std::vector<score::TrainingWindow> lessons;
  };
  /// `done` is told the step's loss when it is known: at once, or on a GPU with the next step or settle().
  void train_step(int phase, const std::vector<RankLessons>& batches, optim::Optimizer& optimizer, double lr,
                  std::function<void(double)> done);
  /// Waits for all steps. Before an optimiser goes.
  void settle();
  /// Runs windows with the model's present weights.
  void run_windows(std::span<const score::Window> windows, const score::WindowSink& sink);
  /// Enters targets [first, first + nll.size()) into the ledger, with the count model's part where there is
  /// one.
  void commit(std::int64_t first, std::span<const float> nll, const score::ScoreOrigin& origin);

  bool done() const;  ///< everything that `until` asks for is in the ledger
  TrainingResult& training(const std::string& what, int phase);
  void progress(std::string_view task, std::int64_t done, std::int64_t total, std::string_view unit,
                double loss);
  EvaluateResult result();

 private:
  void settle_one();
  void check_time(std::string_view where);
  void audit(const score::Window& window, std::span<const float> nll);

  const Protocol protocol_;
  const exec::Engine& engine_;
  const EvaluateOptions& options_;
  const score::TokenView tokens_;
  const score::WindowPlan windows_;
  std::vector<Selection> selections_;
  AdaptedModel model_;
  score::ScoreLedger ledger_;
  score::TextGate gate_;
  score::WindowRunner runner_;
  std::optional<score::PpmBlend> ppm_;
  dist::SingleRank single_;
  dist::Communicator* ranks_;
  base::Stopwatch watch_;
  EvaluateResult result_;
  std::deque<std::function<void(double)>> waiting_;  ///< for the loss of a step
  std::set<std::int64_t> audited_;
  std::int64_t windows_run_ = 0, steps_ = 0;
  std::vector<std::int32_t> bytes_;
};

/// The two kinds of protocol.
void adapt_before(Evaluation& evaluation, const EpochPlan& plan, const score::WindowPlan& windows);
void adapt_streaming(Evaluation& evaluation, const StreamPlan& plan);

/// Calls of each program.
Work work_of(const Protocol& protocol, const EpochPlan& plan, const score::WindowPlan& windows,
             AdaptedModel& model);
Work work_of(const Protocol& protocol, const StreamPlan& plan, AdaptedModel& model);

}  // namespace fairway::adapt
