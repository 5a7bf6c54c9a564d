// Epochs over the whole text, then its score: pull requests 417, 398 and 518
// (docs/spec/ttt.md sections 3, 4, 6).

#include <cmath>

#include "evaluation.h"

namespace fairway::adapt {
namespace {

/// The lessons of a step, through the door that tells the ledger.
std::vector<Evaluation::RankLessons> windows_of(Evaluation& evaluation, const std::vector<RankBatch>& step,
                                                std::int64_t window, score::SeenTargets& seen) {
  std::vector<Evaluation::RankLessons> batches;
  for (const auto& part : step) {
    Evaluation::RankLessons batch{part.rank, {}};
    for (auto first : part.windows) batch.lessons.push_back(evaluation.gate().unscored(first, window, seen));
    batches.push_back(std::move(batch));
  }
  return batches;
}

void run_phase(Evaluation& evaluation, const EpochPlan& plan, int index, std::int64_t window,
               score::SeenTargets& seen) {
  const auto& phase = evaluation.protocol().phases[static_cast<std::size_t>(index)];
  const auto optimizer = evaluation.model().make_optimizer(index);
  auto& result = evaluation.training(fmt::format("phase {}", index + 1), index);
  base::Stopwatch watch;
  Position at{.epochs = phase.epochs, .count = plan.steps(), .steps = phase.epochs * plan.schedule_steps()};
  for (at.epoch = 0; at.epoch < at.epochs; ++at.epoch) {
    const auto order = plan.order(index, static_cast<int>(at.epoch));
    result.loss.push_back(0);  // the mean so far
    std::int64_t windows = 0;
    for (at.index = 0; at.index < at.count; ++at.index, ++at.step) {
      const auto step = plan.step(order, at.index);
      std::int64_t n = 0;
      for (const auto& part : step) n += static_cast<std::int64_t>(part.windows.size());
      const double lr = phase.lr * lr_scale(phase.schedule, at);
      if (at.index == 0) result.learning_rate.push_back(lr);
      const auto lessons = windows_of(evaluation, step, window, seen);
      windows += n;
      const double part = static_cast<double>(n) / static_cast<double>(windows);
      evaluation.train_step(index, lessons, *optimizer, lr,
                            [&, part, epoch = static_cast<std::size_t>(at.epoch)](double step_loss) {
                              result.loss[epoch] += (step_loss - result.loss[epoch]) * part;
                              evaluation.progress("adapt", ++result.steps, at.epochs * at.count, "step",
                                                  step_loss);
                            });
    }
    result.windows += windows;
  }
  evaluation.settle();
  result.seconds = watch.seconds();
}

}  // namespace

void adapt_before(Evaluation& evaluation, const EpochPlan& plan, const score::WindowPlan& windows) {
  score::SeenTargets seen;
  const auto phases = static_cast<int>(evaluation.protocol().phases.size());
  for (int i = 0; i < phases; ++i) run_phase(evaluation, plan, i, windows.window(), seen);
  const score::ScoreOrigin origin{{&seen}, score::Combination::single};
  std::vector<score::Window> some;
  for (std::int64_t done = 0; done < windows.size() && !evaluation.done();) {
    some.clear();
    for (auto i = done; i < windows.size() && some.size() < 1024; ++i) some.push_back(windows[i]);
    double nats = 0;
    std::size_t targets = 0;
    evaluation.run_windows(some, [&](const score::Window& w, std::span<const float> nll) {
      evaluation.commit(w.start + w.score_from, nll, origin);
      for (float x : nll) nats += static_cast<double>(x);
      targets += nll.size();
    });
    done += static_cast<std::int64_t>(some.size());
    evaluation.progress("score", done, windows.size(), "window", nats / static_cast<double>(targets));
  }
}

Work work_of(const Protocol& protocol, const EpochPlan& plan, const score::WindowPlan& windows,
             AdaptedModel& model) {
  Work work;
  const double in_step = static_cast<double>(plan.windows()) / static_cast<double>(plan.steps());
  for (const auto& phase : protocol.phases) {
    const double steps = static_cast<double>(phase.epochs) * static_cast<double>(plan.steps());
    work.training.push_back({steps, steps * std::ceil(in_step / model.train_rows())});
  }
  // All but the first of a sliding evaluation's windows score the stride.
  work.scoring = {{windows.stride(), std::ceil(static_cast<double>(windows.size()) / model.scorer().rows())}};
  work.windows = windows.size();
  return work;
}

}  // namespace fairway::adapt
