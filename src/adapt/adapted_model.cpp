#include "fairway/adapt/adapted_model.h"

#include <algorithm>
#include <deque>
#include <functional>

#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "fairway/exec/micro_batch.h"
#include "fairway/optim/device_adapter.h"

namespace fairway::adapt {
namespace {

using exec::ComputeWeights;
using graph::Program;

class CpuUpdater final : public Updater {
 public:
  CpuUpdater(const optim::RangeOptimizerConfig& config, const Selection& selection,
             graph::ParameterStore& store, base::ThreadPool& pool)
      : optimizer_(config, selection.ranges, store.flat_values().span<float>(),
                   store.flat_gradients().span<float>(), pool) {}
  void enqueue(double lr) override { reports_.push_back(optimizer_.step(lr)); }
  optim::GradientNorm report() override {
    const auto first = reports_.front();
    reports_.pop_front();
    return first;
  }
  void reset() override { optimizer_.reset(); }

 private:
  optim::RangeOptimizer optimizer_;
  std::deque<optim::GradientNorm> reports_;
};

/// The same on a GPU.
class DeviceUpdater final : public Updater {
 public:
  DeviceUpdater(const optim::RangeOptimizerConfig& c, const Selection& selection,
                graph::ParameterStore& store, ops::cuda::State& state)
      : adapter_(c, selection.ranges, store.flat_values(), store.flat_gradients(), state) {}
  void enqueue(double lr) override {
    adapter_.prepare(lr);
    adapter_.enqueue();
    adapter_.enqueue_report(slot(enqueued_++));
  }
  optim::GradientNorm report() override { return adapter_.report(slot(reported_++)); }
  void reset() override { adapter_.enqueue_reset(); }

 private:
  static int slot(std::int64_t step) { return static_cast<int>(step % optim::DeviceAdapter::report_slots); }

  optim::DeviceAdapter adapter_;
  std::int64_t enqueued_ = 0, reported_ = 0;
};

/// Tokens that come from no text, for measuring: a GPU at its power limit is faster with zeros.
void fill_with_noise(std::span<std::int32_t> tokens, int vocabulary) {
  const base::Random random(0, "adapt/noise");
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<std::int32_t>(random.below(i, static_cast<std::uint64_t>(vocabulary)));
}

/// A micro-batch of lessons; rows without one weigh nothing.
void fill_with_lessons(const exec::MicroBatch& batch, std::span<const WeightedLesson> lessons,
                       std::size_t window) {
  for (std::size_t r = 0; r < lessons.size(); ++r) {
    lessons[r].lesson.inputs(batch.tokens.subspan(r * window, window));
    lessons[r].lesson.targets(batch.targets.subspan(r * window, window));
    std::ranges::fill(batch.weights.subspan(r * window, window),
                      static_cast<float>(lessons[r].weight / static_cast<double>(window)));
  }
  const auto used = lessons.size() * window;
  std::ranges::fill(batch.tokens.subspan(used), 0);
  std::ranges::fill(batch.targets.subspan(used), 0);
  std::ranges::fill(batch.weights.subspan(used), 0.0f);
}

int rows_for(const exec::Engine& engine, const model::ModelConfig& config, std::int64_t windows) {
  return exec::rows_for(exec::adaptation_tokens(engine.device()), config.window, windows);
}

exec::RunnerOptions runner_options(const AdaptedModelOptions& o, int train_rows) {
  exec::RunnerOptions options;
  options.trains = !o.phases.empty();
  options.micro_batches = (o.train_windows + train_rows - 1) / train_rows;
  if (o.fake_quantize) options.quantise = [](const graph::Parameter&) { return 31; };
  options.form = o.form;
  return options;
}

}  // namespace

struct AdaptedModel::State {
  State(const model::ModelConfig& config, const exec::Engine& e, AdaptedModelOptions o)
      : engine(e),
        options(std::move(o)),
        train_rows(rows_for(e, config, options.train_windows)),
        runner(config, e, runner_options(options, train_rows)),
        scorer(runner, rows_for(e, config, options.score_windows)) {
    for (const auto& phase : options.phases)
      trainers.push_back(&runner.add({.rows = train_rows, .trainable = [&phase](std::string_view name) {
                                        return phase.contains(name);
                                      }}));
    for (const int length : options.score_lengths) scorer.add(length);
    if (options.logits) logits_program = &runner.add({.mode = model::Mode::logits});
    runner.allocate();
  }

  Program& trainer(int phase) const { return *trainers.at(static_cast<std::size_t>(phase)); }
  double seconds_of(const std::function<void()>& call, int calls) const {
    base::Stopwatch watch;
    for (int i = 0; i < calls; ++i) call();
    engine.synchronize();
    return watch.seconds();
  }
  /// Seconds of that many calls, from a few. On a GPU the first loads kernels and the second is recorded; the
  /// others are a fiftieth of all or `enough` seconds, in which the clock falls to what the power limit
  /// allows.
  double forecast(double calls, const std::function<void()>& call) const {
    if (!engine.cuda()) return calls * seconds_of(call, 1);
    constexpr double enough = 0.5;
    seconds_of(call, 2);
    const double one = seconds_of(call, 1);
    const auto some = static_cast<int>(std::min(enough / one, calls / 50));
    return calls * (some > 1 ? seconds_of(call, some) / some : one);
  }

  const exec::Engine& engine;
  const AdaptedModelOptions options;
  const int train_rows;
  exec::ModelRunner runner;
  exec::WindowPrograms scorer;
  std::vector<Program*> trainers;  ///< by phase
  Program* logits_program = nullptr;
  std::deque<Updater*> queue;  ///< of the steps on their way
  std::vector<float> logits;
};

AdaptedModel::AdaptedModel(const model::ModelConfig& config, const graph::ParameterStore& weights,
                           const exec::Engine& engine, AdaptedModelOptions options) {
  if (config.memory_tokens > 0)
    base::fail_input("model.memory_tokens = {}: a model with memory tokens is not adapted",
                     config.memory_tokens);
  state_ = std::make_unique<State>(config, engine, std::move(options));
  auto values = exec::read_weights(weights);
  for (const auto& phase : state_->options.phases)
    for (const auto& range : phase.ranges)
      if (range.storage == optim::Storage::bf16)
        for (auto i = range.begin; i < range.end; ++i) {
          auto& v = values[static_cast<std::size_t>(i)];
          v = tensor::round_to_bf16(v);
        }
  exec::write_weights(state_->runner.weights(), values);
}

AdaptedModel::~AdaptedModel() = default;

exec::ModelRunner& AdaptedModel::runner() { return state_->runner; }
score::WindowScorer& AdaptedModel::scorer() { return state_->scorer; }
int AdaptedModel::train_rows() const { return state_->train_rows; }
int AdaptedModel::queued() const { return static_cast<int>(state_->queue.size()); }
int AdaptedModel::depth() const { return state_->runner.depth(); }
const Program& AdaptedModel::training_program(int phase) const { return state_->trainer(phase); }

void AdaptedModel::step(int phase, std::span<const WeightedLesson> lessons, Updater& updater, double lr,
                        dist::Communicator& ranks) {
  auto& s = *state_;
  const auto rows = static_cast<std::size_t>(s.train_rows);
  const auto window = static_cast<std::size_t>(s.runner.config().window);
  s.runner.prepare(ComputeWeights::quantised);
  s.runner.zero_gradients();
  s.runner.forward_backward(s.trainer(phase), static_cast<std::int64_t>((lessons.size() + rows - 1) / rows),
                            [&](std::int64_t i, const exec::MicroBatch& batch) {
                              const auto rest = lessons.subspan(static_cast<std::size_t>(i) * rows);
                              fill_with_lessons(batch, rest.first(std::min(rows, rest.size())), window);
                            });
  s.runner.unfold(s.trainer(phase), ComputeWeights::quantised);
  if (ranks.size() > 1) {
    base::check(!s.engine.cuda(), "gradients of a GPU are summed over one rank");
    for (auto part : gradients(phase)) ranks.sum(part);
  }
  s.runner.weights_changed();
  updater.enqueue(lr);
  s.queue.push_back(&updater);
}

AdaptedModel::StepOutcome AdaptedModel::collect() {
  auto& s = *state_;
  base::check(!s.queue.empty(), "no step to collect");
  const auto gradient = s.queue.front()->report();
  s.queue.pop_front();
  return {s.runner.take_loss(), gradient};
}

std::span<const float> AdaptedModel::logits(std::span<const std::int32_t> inputs) {
  auto& s = *state_;
  base::check(s.logits_program != nullptr, "logits of a model without that program");
  s.runner.prepare();
  s.logits_program->write("tokens", inputs);
  s.logits_program->run();
  s.logits.resize(inputs.size() * static_cast<std::size_t>(s.runner.config().vocab_size));
  s.logits_program->read<float>("logits", s.logits);
  return s.logits;
}

std::vector<std::span<float>> AdaptedModel::gradients(int phase) {
  const auto flat = state_->runner.weights().flat_gradients().span<float>();
  std::vector<std::span<float>> parts;
  for (const auto& r : state_->options.phases.at(static_cast<std::size_t>(phase)).ranges)
    parts.push_back(
        flat.subspan(static_cast<std::size_t>(r.begin), static_cast<std::size_t>(r.end - r.begin)));
  return parts;
}

std::unique_ptr<Updater> AdaptedModel::make_updater(int phase, const optim::RangeOptimizerConfig& config) {
  auto& s = *state_;
  const auto& selection = s.options.phases.at(static_cast<std::size_t>(phase));
  auto& store = s.runner.weights();
  if (auto* gpu = s.engine.cuda()) return std::make_unique<DeviceUpdater>(config, selection, store, *gpu);
  return std::make_unique<CpuUpdater>(config, selection, store, s.engine.pool());
}

double AdaptedModel::forecast_batches(int phase, double count) {
  auto& s = *state_;
  auto& program = s.trainer(phase);
  const int vocabulary = s.runner.config().vocab_size;
  s.runner.prepare(ComputeWeights::quantised);
  return s.forecast(count, [&] {
    s.runner.send(program, [&](const exec::MicroBatch& batch) {
      fill_with_noise(batch.tokens, vocabulary);
      fill_with_noise(batch.targets, vocabulary);
      std::ranges::fill(batch.weights, 1.0f / static_cast<float>(batch.weights.size()));
    });
    program.run();
  });
}

double AdaptedModel::forecast_updates(int phase, const optim::RangeOptimizerConfig& config, double count) {
  auto& s = *state_;
  const auto updater = make_updater(phase, config);
  return s.forecast(count, [&] {
    s.runner.prepare(ComputeWeights::quantised);
    s.runner.zero_gradients();
    s.runner.unfold(s.trainer(phase), ComputeWeights::quantised);
    updater->enqueue(0);  // no rate, no change
    updater->report();
    s.runner.weights_changed();
  });
}

double AdaptedModel::forecast_scoring(int score_last, double count) {
  auto& s = *state_;
  const auto& config = s.runner.config();
  const auto rows = static_cast<std::size_t>(s.scorer.rows());
  std::vector<std::int32_t> inputs(rows * static_cast<std::size_t>(config.window)),
      targets(rows * static_cast<std::size_t>(score_last));
  fill_with_noise(inputs, config.vocab_size);
  fill_with_noise(targets, config.vocab_size);
  std::vector<float> nll(targets.size());
  return s.forecast(count, [&] { s.scorer.score(inputs, targets, score_last, nll); });
}

}  // namespace fairway::adapt
