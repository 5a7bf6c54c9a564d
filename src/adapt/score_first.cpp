// Chunk by chunk: every chunk is scored before it is trained on (docs/spec/ttt.md section 5;
// docs/spec/evaluation.md section 6, "What a legal variant must do"). Virtual ranks are models of their own,
// each on its shard.

#include <algorithm>
#include <cmath>
#include <numeric>

#include "evaluation.h"
#include "fairway/base/error.h"

namespace fairway::adapt {
namespace {

std::int64_t steps_of(const Protocol& p, const Chunk& chunk) {
  const auto windows = static_cast<std::int64_t>(chunk.trained.size());
  return p.phases[0].epochs * ((windows + p.batch_windows - 1) / p.batch_windows);
}

/// One model on its way through a shard.
struct Trajectory {
  int number = 0;
  double factor = 1;  ///< of the learning rate; 0: the artifact's weights all along
  std::unique_ptr<optim::Optimizer> optimizer;
  score::SeenTargets seen;
  exec::Snapshot weights;  ///< while another trajectory has the model
  Position at;
};

class Stream {
 public:
  Stream(Evaluation& evaluation, const StreamPlan& plan) : e_(evaluation), p_(e_.protocol()), plan_(plan) {
    base::check(e_.ranks().size() == 1, "streaming adaptation on {} ranks", e_.ranks().size());
    e_.model().runner().save(base_);
    trajectories_.resize(p_.pass_lr.size());
    for (std::size_t k = 0; k < trajectories_.size(); ++k) {
      auto& t = trajectories_[k];
      t.number = static_cast<int>(k);
      t.factor = p_.pass_lr[k];
      if (t.factor > 0) t.optimizer = e_.model().make_optimizer(0);
    }
    const auto k = trajectories_.size();
    weights_.assign(k, 1.0 / static_cast<double>(k));
    const double sum = std::accumulate(p_.mixture_weights.begin(), p_.mixture_weights.end(), 0.0);
    for (std::size_t i = 0; i < p_.mixture_weights.size(); ++i) weights_[i] = p_.mixture_weights[i] / sum;
  }

  void run() {
    for (int rank = 0; rank < p_.virtual_ranks && !e_.done(); ++rank) {
      chunks_.clear();
      for (std::int64_t i = 0; i < plan_.chunks(rank); ++i) chunks_.push_back(plan_.chunk(rank, i));
      // Only trajectories in the text's own order can go through it together, each chunk's score entered
      // before any of them learns from it.
      if (p_.rotate)
        one_after_the_other(rank);
      else
        together(rank);
    }
  }

 private:
  void together(int rank) {
    e_.model().runner().load(base_);
    active_ = -1;
    for (auto& t : trajectories_) {
      restart(t);
      if (trajectories_.size() > 1 && t.factor > 0) e_.model().runner().save(t.weights);
    }
    std::vector<std::vector<float>> nll(trajectories_.size());
    for (std::size_t b = 0; b < chunks_.size() && !e_.done(); ++b) {
      for (auto& t : trajectories_) {
        activate(t);
        score(chunks_[b], nll[static_cast<std::size_t>(t.number)]);
      }
      std::vector<const score::SeenTargets*> seen;
      for (const auto& t : trajectories_) seen.push_back(&t.seen);
      enter(chunks_[b], nll, seen);
      if (b + 1 == chunks_.size()) break;  // what is learnt from the last chunk scores nothing
      for (auto& t : trajectories_) {
        if (t.factor == 0) continue;
        activate(t);
        train(t, rank, chunks_[b], static_cast<std::int64_t>(b), true);
      }
    }
  }

  /// Pass k starts at chunk floor(n k / K); scores are entered when all passes are over.
  void one_after_the_other(int rank) {
    const std::size_t n = chunks_.size(), passes = trajectories_.size();
    std::vector<std::vector<std::vector<float>>> nll(n, std::vector<std::vector<float>>(passes));
    std::vector<std::vector<score::SeenTargets>> seen(n, std::vector<score::SeenTargets>(passes));
    for (auto& t : trajectories_) {
      e_.model().runner().load(base_);
      restart(t);
      const auto k = static_cast<std::size_t>(t.number);
      for (std::size_t b = 0; b < n; ++b) {
        const std::size_t c = (n * k / passes + b) % n;
        score(chunks_[c], nll[c][k]);
        seen[c][k] = t.seen;
        if (t.factor > 0 && b + 1 < n) train(t, rank, chunks_[c], static_cast<std::int64_t>(b), false);
      }
    }
    for (std::size_t c = 0; c < n; ++c) {
      std::vector<const score::SeenTargets*> all;
      for (const auto& each : seen[c]) all.push_back(&each);
      enter(chunks_[c], nll[c], all);
    }
  }

  void restart(Trajectory& t) {
    if (t.optimizer) t.optimizer->enqueue_reset();
    t.seen.clear();
    t.at = {};
    t.at.epochs = p_.phases[0].epochs;
    t.at.count = static_cast<std::int64_t>(chunks_.size());
    t.at.steps = 0;
    for (const auto& chunk : chunks_) t.at.steps += steps_of(p_, chunk);
  }

  /// Gives the model to a trajectory.
  void activate(Trajectory& t) {
    if (trajectories_.size() == 1 || active_ == t.number) return;
    if (active_ >= 0) {
      auto& before = trajectories_[static_cast<std::size_t>(active_)];
      if (before.factor > 0) e_.model().runner().save(before.weights);
    }
    e_.model().runner().load(t.factor > 0 ? t.weights : base_);
    active_ = t.number;
  }

  void score(const Chunk& chunk, std::vector<float>& nll) {
    nll.clear();
    e_.run_windows(chunk.scored, [&](const score::Window&, std::span<const float> some) {
      nll.insert(nll.end(), some.begin(), some.end());
    });
    base::check(static_cast<std::int64_t>(nll.size()) == chunk.count, "{} scores for a chunk of {}",
                nll.size(), chunk.count);
  }

  void enter(const Chunk& chunk, const std::vector<std::vector<float>>& nll,
             const std::vector<const score::SeenTargets*>& seen) {
    std::vector<float> combined(static_cast<std::size_t>(chunk.count));
    score::combine(p_.combination, nll, weights_, combined);
    e_.commit(chunk.first, combined, {seen, p_.combination});
    const double mean = std::accumulate(combined.begin(), combined.end(), 0.0) /
                        static_cast<double>(std::max<std::size_t>(combined.size(), 1));
    e_.progress("adapt", chunk.first + chunk.count, plan_.windows().targets(), "token", mean);
  }

  void train(Trajectory& t, int rank, const Chunk& chunk, std::int64_t index, bool committed) {
    const auto& phase = p_.phases[0];
    auto& result = e_.training(fmt::format("pass {}", t.number + 1), 0);
    base::Stopwatch watch;
    t.at.index = index;
    for (t.at.epoch = 0; t.at.epoch < phase.epochs; ++t.at.epoch)
      for (std::size_t first = 0; first < chunk.trained.size();
           first += static_cast<std::size_t>(p_.batch_windows)) {
        Evaluation::RankLessons batch{rank, {}};
        const auto last = std::min(first + static_cast<std::size_t>(p_.batch_windows), chunk.trained.size());
        for (auto i = first; i < last; ++i) batch.lessons.push_back(lesson(t, chunk.trained[i], committed));
        const double lr = phase.lr * t.factor * lr_scale(phase.schedule, t.at);
        if (t.at.step == 0) {
          result.learning_rate.push_back(lr);
          result.loss.push_back(0);
        }
        ++t.at.step;
        ++result.steps;
        result.windows += static_cast<std::int64_t>(last - first);
        // The mean so far of this shard.
        e_.train_step(0, {batch}, *t.optimizer, lr,
                      [&result, n = static_cast<double>(t.at.step)](double loss) {
                        result.loss.back() += (loss - result.loss.back()) / n;
                      });
      }
    e_.settle();
    result.seconds += watch.seconds();
  }

  score::TrainingWindow lesson(Trajectory& t, std::int64_t first, bool committed) {
    const std::int64_t window = plan_.windows().window();
    return committed ? e_.gate().committed(first, window, t.seen) : e_.gate().unscored(first, window, t.seen);
  }

  Evaluation& e_;
  const Protocol& p_;
  const StreamPlan& plan_;
  exec::Snapshot base_;
  std::vector<Trajectory> trajectories_;
  std::vector<double> weights_;  // of the mixture
  std::vector<Chunk> chunks_;    // of the present shard
  int active_ = -1;
};

}  // namespace

void adapt_streaming(Evaluation& evaluation, const StreamPlan& plan) { Stream(evaluation, plan).run(); }

Work work_of(const Protocol& protocol, const StreamPlan& plan, AdaptedModel& model) {
  Work work;
  const auto passes = static_cast<double>(protocol.pass_lr.size());
  const auto trained =
      static_cast<double>(std::ranges::count_if(protocol.pass_lr, [](double f) { return f > 0; }));
  double steps = 0, batches = 0, scoring = 0;
  for (int r = 0; r < protocol.virtual_ranks; ++r) {
    const auto chunks = plan.chunks(r);
    for (std::int64_t i = 0; i < chunks; ++i) {
      const auto chunk = plan.chunk(r, i);
      scoring += std::ceil(static_cast<double>(chunk.scored.size()) / model.scorer().rows());
      work.windows += static_cast<std::int64_t>(chunk.scored.size());
      if (i + 1 == chunks) continue;
      const auto windows =
          std::min<double>(protocol.batch_windows, static_cast<double>(chunk.trained.size()));
      const auto in_chunk = static_cast<double>(steps_of(protocol, chunk));
      steps += in_chunk;
      batches += in_chunk * std::ceil(windows / model.train_rows());
    }
  }
  work.training = {{steps * trained, batches * trained}};
  work.scoring = {{plan.windows().stride(), scoring * passes}};
  work.windows *= static_cast<std::int64_t>(protocol.pass_lr.size());
  return work;
}

}  // namespace fairway::adapt
