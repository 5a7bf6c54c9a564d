#include "fairway/adapt/adapted_model.h"

#include <algorithm>

#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "fairway/exec/micro_batch.h"

namespace fairway::adapt {
namespace {

using exec::ComputeWeights;
using graph::Program;

void enqueue(optim::Optimizer& optimizer, double lr) {
  optimizer.prepare({.lr = {lr}});
  optimizer.enqueue();
  optimizer.enqueue_report();
}

/// Tokens that come from no text, for measuring: a GPU at its power limit is faster with zeros.
void fill_with_noise(std::span<std::int32_t> tokens, int vocabulary) {
  const base::Random random(0, "adapt/noise");
  for (std::size_t i = 0; i < tokens.size(); ++i)
    tokens[i] = static_cast<std::int32_t>(random.below(i, static_cast<std::uint64_t>(vocabulary)));
}

/// A micro-batch of lessons; rows without one weigh nothing.
void fill_with_lessons(const exec::MicroBatch& batch, std::span<const WeightedWindow> lessons,
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

model::ModelConfig checked(const model::ModelConfig& config) {
  if (config.memory_tokens > 0)
    base::fail_input("model.memory_tokens = {}: a model with memory tokens is not adapted",
                     config.memory_tokens);
  return config;
}

}  // namespace

AdaptedModel::AdaptedModel(const model::ModelConfig& config, const graph::ParameterStore& weights,
                           const exec::Engine& engine, AdaptedModelOptions options)
    : engine_(engine),
      options_(std::move(options)),
      train_rows_(rows_for(engine, checked(config), options_.train_windows)),
      runner_(config, engine, runner_options(options_, train_rows_)),
      scorer_(runner_, rows_for(engine, config, options_.score_windows)) {
  for (const auto& phase : options_.phases)
    trainers_.push_back(&runner_.add({.rows = train_rows_, .trainable = [&phase](std::string_view name) {
                                        return phase.contains(name);
                                      }}));
  for (const int length : options_.score_lengths) scorer_.add(length);
  if (options_.logits) logits_program_ = &runner_.add({.mode = model::Mode::logits});
  runner_.allocate();
  auto values = exec::read_weights(weights);
  for (const auto& phase : options_.phases)
    for (const auto& group : phase.groups)
      if (group.storage == tensor::DType::bf16)
        for (const auto& p : group.parameters)
          for (float& v : p.range.of(std::span(values))) v = tensor::round_to_bf16(v);
  exec::write_weights(runner_.weights(), values);
}

void AdaptedModel::step(int phase, std::span<const WeightedWindow> lessons, optim::Optimizer& optimizer,
                        double lr, dist::Communicator& ranks) {
  const auto rows = static_cast<std::size_t>(train_rows_);
  const auto window = static_cast<std::size_t>(runner_.config().window);
  runner_.begin_step();
  runner_.prepare(ComputeWeights::quantised);
  runner_.zero_gradients();
  runner_.forward_backward(trainer(phase), static_cast<std::int64_t>((lessons.size() + rows - 1) / rows),
                           [&](std::int64_t i, const exec::MicroBatch& batch) {
                             const auto rest = lessons.subspan(static_cast<std::size_t>(i) * rows);
                             fill_with_lessons(batch, rest.first(std::min(rows, rest.size())), window);
                           });
  runner_.unfold(trainer(phase), ComputeWeights::quantised);
  if (ranks.size() > 1) {
    base::check(!engine_.cuda(), "gradients of a GPU are summed over one rank");
    for (auto part : gradients(phase)) ranks.sum(part);
  }
  enqueue(optimizer, lr);
  runner_.end_step();
  queue_.push_back(&optimizer);
}

AdaptedModel::StepOutcome AdaptedModel::collect() {
  base::check(!queue_.empty(), "no step to collect");
  const auto gradient = queue_.front()->report();
  queue_.pop_front();
  return {runner_.take_step().loss, gradient};
}

std::span<const float> AdaptedModel::logits(std::span<const std::int32_t> inputs) {
  base::check(logits_program_ != nullptr, "logits of a model without that program");
  runner_.prepare();
  runner_.write_tokens(*logits_program_, inputs);
  logits_program_->run();
  logits_.resize(inputs.size() * static_cast<std::size_t>(runner_.config().vocab_size));
  logits_program_->read<float>("logits", logits_);
  return logits_;
}

std::vector<std::span<float>> AdaptedModel::gradients(int phase) {
  const auto flat = runner_.weights().flat_gradients().span<float>();
  std::vector<std::span<float>> parts;
  for (const auto& group : options_.phases.at(static_cast<std::size_t>(phase)).groups)
    for (const auto& p : group.parameters) parts.push_back(p.range.of(flat));
  return parts;
}

std::unique_ptr<optim::Optimizer> AdaptedModel::make_optimizer(int phase) {
  const auto& selection = options_.phases.at(static_cast<std::size_t>(phase));
  const optim::OptimizerConfig config{
      .groups = selection.groups, .grad_clip = selection.grad_clip, .norm_by_range = true};
  const auto& store = runner_.weights();
  return optim::make_optimizer(config, store.flat_values(), store.flat_gradients(), &engine_.pool(),
                               engine_.cuda());
}

/// Seconds of that many calls, from a few. On a GPU the first loads kernels and the second is recorded; the
/// others are a fiftieth of all or `enough` seconds, in which the clock falls to what the power limit allows.
double AdaptedModel::forecast(double calls, const std::function<void()>& call) const {
  const auto seconds_of = [&](int some) {
    const base::Stopwatch watch;
    for (int i = 0; i < some; ++i) call();
    engine_.synchronize();
    return watch.seconds();
  };
  if (!engine_.cuda()) return calls * seconds_of(1);
  constexpr double enough = 0.5;
  seconds_of(2);
  const double one = seconds_of(1);
  const auto some = static_cast<int>(std::min(enough / one, calls / 50));
  return calls * (some > 1 ? seconds_of(some) / some : one);
}

double AdaptedModel::forecast_batches(int phase, double count) {
  auto& program = trainer(phase);
  const int vocabulary = runner_.config().vocab_size;
  runner_.prepare(ComputeWeights::quantised);
  return forecast(count, [&] {
    runner_.send(program, [&](const exec::MicroBatch& batch) {
      fill_with_noise(batch.tokens, vocabulary);
      fill_with_noise(batch.targets, vocabulary);
      std::ranges::fill(batch.weights, 1.0f / static_cast<float>(batch.weights.size()));
    });
    program.run();
  });
}

double AdaptedModel::forecast_updates(int phase, double count) {
  const auto optimizer = make_optimizer(phase);
  return forecast(count, [&] {
    runner_.prepare(ComputeWeights::quantised);
    runner_.zero_gradients();
    runner_.unfold(trainer(phase), ComputeWeights::quantised);
    enqueue(*optimizer, 0);  // no rate, no change
    optimizer->report();
    runner_.weights_changed();
  });
}

double AdaptedModel::forecast_scoring(int score_last, double count) {
  const auto& config = runner_.config();
  const auto rows = static_cast<std::size_t>(scorer_.rows());
  std::vector<std::int32_t> inputs(rows * static_cast<std::size_t>(config.window)),
      targets(rows * static_cast<std::size_t>(score_last));
  fill_with_noise(inputs, config.vocab_size);
  fill_with_noise(targets, config.vocab_size);
  std::vector<float> nll(targets.size());
  return forecast(count, [&] { scorer_.score(inputs, targets, score_last, nll); });
}

}  // namespace fairway::adapt
