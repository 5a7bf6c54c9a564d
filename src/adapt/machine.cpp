#include "fairway/adapt/machine.h"

#include <algorithm>
#include <deque>
#include <functional>
#include <map>

#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/ops/cuda_work.h"
#include "fairway/tensor/cuda.h"
#include "feed.h"

namespace fairway::adapt {
namespace {

using graph::Program;

/// Tokens in a program's batch: enough for products at full rate.
int batch_tokens(const tensor::Device& device) { return device.is_cuda() ? 131'072 : 4096; }

void enqueue(optim::Optimizer& optimizer, double lr) {
  optimizer.prepare({.lr = {lr}});
  optimizer.enqueue();
  optimizer.enqueue_report();
}

}  // namespace

struct Machine::State {
  State(const model::ModelConfig& c, const graph::ParameterStore& weights, const graph::Runtime& r,
        MachineOptions o)
      : config(c),
        runtime(r),
        options(std::move(o)),
        rows(rows_for(options.score_windows)),
        train_rows(rows_for(options.train_windows)),
        store(weights.layout(), r.device, !options.phases.empty()),
        plan(store, r),
        feed(r, train_rows, c.window, batches_for(options.train_windows)) {
    if (c.memory_tokens > 0)
      base::fail_input("model.memory_tokens = {}: a model with memory tokens is not adapted",
                       c.memory_tokens);
    const auto from = weights.flat_values(), to = store.flat_values();
    tensor::copy_bytes(r.device, to.data, weights.device(), from.data, from.bytes());
    add_refreshes();
    for (const auto& phase : options.phases) {
      trainers.push_back(&plan.add(build_trainer(phase)));
      unfolds.push_back(options.build.fold_scales ? &plan.add(build_unfold(phase)) : nullptr);
    }
    for (const auto n : options.score_lengths) scorers[n] = &plan.add(build_scorer(n));
    if (options.logits) {
      const auto build = base_options(model::Mode::logits, 1);
      logits_program = &plan.add(model::build(config, store.layout(), build));
    }
    plan.allocate();
  }

  int rows_for(std::int64_t windows) const {
    const int most = std::max(1, batch_tokens(runtime.device) / config.window);
    return static_cast<int>(std::clamp<std::int64_t>(windows, 1, most));
  }
  std::size_t batches_for(std::int64_t windows) const {
    return static_cast<std::size_t>((windows + train_rows - 1) / train_rows);
  }
  model::BuildOptions base_options(model::Mode mode, int batch) const {
    auto build = options.build;
    build.mode = mode;
    build.rows = batch;
    return build;
  }
  /// The one place that decides what training sees of the weights and scoring does not: products read a
  /// working copy, rounded for a GPU, int6 rows while a fake-quantised phase trains.
  void add_refreshes() {
    const auto& b = options.build;
    const bool rounded = b.dtype != tensor::DType::f32;
    if (!rounded && !b.fold_scales && !options.fake_quantize && !runtime.device.is_cuda()) return;
    store.add_working_copy(b.dtype);
    refresh_plain = &plan.add(model::build_refresh(config, store.layout(), refresh_options(false)));
    if (!options.fake_quantize) return;
    refresh_quantised = &plan.add(model::build_refresh(config, store.layout(), refresh_options(true)));
  }
  model::RefreshOptions refresh_options(bool quantised) const {
    model::RefreshOptions refresh;
    refresh.dtype = options.build.dtype;
    refresh.fold_scales = options.build.fold_scales;
    if (quantised) refresh.quantize = [](std::string_view) { return 31; };
    return refresh;
  }
  /// Gradients of folded weights become those of the weights and scales that a phase trains.
  graph::Graph build_unfold(const Selection& phase) const {
    auto refresh = refresh_options(options.fake_quantize);
    refresh.trainable = [&phase](std::string_view name) { return phase.contains(name); };
    return model::build_unfold(config, store.layout(), refresh);
  }
  enum class Working { stale, plain, quantised };
  void prepare(Working wanted) {
    if (!refresh_plain) return;
    if (wanted == Working::quantised && !refresh_quantised) wanted = Working::plain;
    if (working == wanted) return;
    (wanted == Working::quantised ? refresh_quantised : refresh_plain)->run();
    working = wanted;
  }
  /// Work queued on a GPU is done; what follows may touch its memory.
  void wait() const {
    if (runtime.cuda) tensor::synchronize(runtime.device);
  }
  double seconds_of(const std::function<void()>& call, int calls) const {
    base::Stopwatch watch;
    for (int i = 0; i < calls; ++i) call();
    wait();
    return watch.seconds();
  }
  /// Seconds of that many calls, from a few. On a GPU the first loads kernels and the second is recorded; the
  /// others are a fiftieth of all or `enough` seconds, in which the clock falls to what the power limit
  /// allows.
  double forecast(double calls, const std::function<void()>& call) const {
    if (!runtime.cuda) return calls * seconds_of(call, 1);
    constexpr double enough = 0.5;
    seconds_of(call, 2);
    const double one = seconds_of(call, 1);
    const auto some = static_cast<int>(std::min(enough / one, calls / 50));
    return calls * (some > 1 ? seconds_of(call, some) / some : one);
  }
  graph::Graph build_trainer(const Selection& phase) const {
    auto build = base_options(model::Mode::train, train_rows);
    build.trainable = [&phase](std::string_view name) { return phase.contains(name); };
    return model::build(config, store.layout(), build);
  }
  graph::Graph build_scorer(int last) const {
    auto build = base_options(model::Mode::score, rows);
    build.last = last;
    return model::build(config, store.layout(), build);
  }
  void zero_gradients() {
    const auto all = store.flat_gradients();
    if (runtime.cuda)
      ops::cuda::zero_on_device(*runtime.cuda, all.data, all.bytes());
    else
      store.zero_gradients();
  }
  /// Forward and backward of all lessons; the losses come back in a slot.
  void run_trainer(int phase, std::span<const WeightedLesson> lessons, int slot) {
    auto& program = *trainers.at(static_cast<std::size_t>(phase));
    prepare(Working::quantised);
    zero_gradients();
    feed.clear(slot);
    const auto most = static_cast<std::size_t>(train_rows);
    for (std::size_t first = 0; first < lessons.size(); first += most) {
      feed.send(program, lessons.subspan(first, std::min(most, lessons.size() - first)));
      program.run();
      feed.receive(program, slot);
    }
    if (auto* unfold = unfolds[static_cast<std::size_t>(phase)]) unfold->run();
  }

  const model::ModelConfig config;
  const graph::Runtime runtime;
  const MachineOptions options;
  const int rows, train_rows;
  graph::ParameterStore store;
  graph::Plan plan;
  std::vector<Program*> trainers, unfolds;  ///< by phase; null: scales are not folded
  std::map<int, Program*> scorers;          ///< by scored length
  Program *logits_program = nullptr, *refresh_plain = nullptr, *refresh_quantised = nullptr;
  Working working = Working::stale;
  Feed feed;
  std::deque<optim::Optimizer*> queue;  ///< of the steps on their way
  std::int64_t stepped = 0;
  std::vector<float> logits;
};

Machine::Machine(const model::ModelConfig& config, const graph::ParameterStore& weights,
                 const graph::Runtime& runtime, MachineOptions options)
    : state_(std::make_unique<State>(config, weights, runtime, std::move(options))) {
  auto& s = *state_;
  std::vector<float> host(static_cast<std::size_t>(s.store.layout().padded_elements()));
  const auto values = s.store.flat_values();
  tensor::copy_bytes({}, host.data(), s.runtime.device, values.data, values.bytes());
  for (const auto& phase : s.options.phases)
    for (const auto& group : phase.groups)
      if (group.storage == tensor::DType::bf16)
        for (const auto& p : group.parameters)
          for (float& v : p.range.of(std::span(host))) v = tensor::round_to_bf16(v);
  tensor::copy_bytes(s.runtime.device, values.data, {}, host.data(), values.bytes());
}

Machine::~Machine() = default;

int Machine::rows() const { return state_->rows; }
int Machine::train_rows() const { return state_->train_rows; }
const graph::ParameterStore& Machine::weights() const { return state_->store; }
std::vector<graph::MemoryLine> Machine::memory_table() const { return state_->plan.memory_table(); }
const graph::Program& Machine::training_program(int phase) const {
  return *state_->trainers.at(static_cast<std::size_t>(phase));
}

void Machine::score(std::span<const std::int32_t> inputs, std::span<const std::int32_t> targets,
                    int score_last, std::span<float> nll) {
  auto& program = *state_->scorers.at(score_last);
  state_->prepare(State::Working::plain);
  program.write("tokens", inputs);
  program.write("targets", targets);
  program.run();
  program.read("nll", nll);
}

void Machine::step(int phase, std::span<const WeightedLesson> lessons, optim::Optimizer& optimizer, double lr,
                   dist::Communicator& ranks) {
  auto& s = *state_;
  base::check(queued() < Feed::slots, "{} steps are on their way", queued());
  s.run_trainer(phase, lessons, static_cast<int>(s.stepped++ % Feed::slots));
  if (ranks.size() > 1) {
    base::check(!s.runtime.cuda, "gradients of a GPU are summed over one rank");
    for (auto part : gradients(phase)) ranks.sum(part);
  }
  s.working = State::Working::stale;
  enqueue(optimizer, lr);
  s.queue.push_back(&optimizer);
}

Machine::StepOutcome Machine::collect() {
  auto& s = *state_;
  base::check(!s.queue.empty(), "no step to collect");
  const auto gradient = s.queue.front()->report();  // after it, its losses are there
  const auto slot = static_cast<int>((s.stepped - queued()) % Feed::slots);
  s.queue.pop_front();
  return {s.feed.sum(slot), gradient};
}

int Machine::queued() const { return static_cast<int>(state_->queue.size()); }
int Machine::depth() const { return state_->runtime.cuda ? Feed::slots - 1 : 0; }

std::span<const float> Machine::logits(std::span<const std::int32_t> inputs) {
  auto& s = *state_;
  base::check(s.logits_program != nullptr, "logits of a machine without that program");
  s.prepare(State::Working::plain);
  s.logits_program->write("tokens", inputs);
  s.logits_program->run();
  s.logits.resize(inputs.size() * static_cast<std::size_t>(s.config.vocab_size));
  s.logits_program->read<float>("logits", s.logits);
  return s.logits;
}

std::vector<std::span<float>> Machine::gradients(int phase) {
  const auto flat = state_->store.flat_gradients().span<float>();
  std::vector<std::span<float>> parts;
  for (const auto& group : state_->options.phases.at(static_cast<std::size_t>(phase)).groups)
    for (const auto& p : group.parameters) parts.push_back(p.range.of(flat));
  return parts;
}

std::unique_ptr<optim::Optimizer> Machine::make_optimizer(int phase) {
  auto& s = *state_;
  const auto& selection = s.options.phases.at(static_cast<std::size_t>(phase));
  const optim::OptimizerConfig config{
      .groups = selection.groups, .grad_clip = selection.grad_clip, .norm_by_range = true};
  return optim::make_optimizer(config, s.store.flat_values(), s.store.flat_gradients(), s.runtime.pool,
                               s.runtime.cuda);
}

void Machine::save(Snapshot& to) const {
  const auto values = state_->store.flat_values();
  const auto& device = state_->runtime.device;
  state_->wait();
  if (to.bytes() == 0) to = Snapshot(device, values.bytes());
  tensor::copy_bytes(device, to.data(), device, values.data, values.bytes());
}

void Machine::load(const Snapshot& from) {
  const auto values = state_->store.flat_values();
  const auto& device = state_->runtime.device;
  base::check(from.bytes() == values.bytes(), "a snapshot of {} bytes for weights of {}", from.bytes(),
              values.bytes());
  state_->wait();
  tensor::copy_bytes(device, values.data, device, from.data(), values.bytes());
  state_->working = State::Working::stale;
}

double Machine::forecast_batches(int phase, double count) {
  auto& s = *state_;
  auto& program = *s.trainers.at(static_cast<std::size_t>(phase));
  s.prepare(State::Working::quantised);
  return s.forecast(count, [&] {
    s.feed.send_noise(program, s.config.vocab_size);
    program.run();
  });
}

double Machine::forecast_updates(int phase, double count) {
  auto& s = *state_;
  const auto optimizer = make_optimizer(phase);
  return s.forecast(count, [&] {
    s.prepare(State::Working::quantised);
    s.zero_gradients();
    if (auto* unfold = s.unfolds.at(static_cast<std::size_t>(phase))) unfold->run();
    enqueue(*optimizer, 0);  // no rate, no change
    optimizer->report();
    s.working = State::Working::stale;
  });
}

double Machine::forecast_scoring(int score_last, double count) {
  auto& s = *state_;
  std::vector<std::int32_t> inputs(static_cast<std::size_t>(s.rows) *
                                   static_cast<std::size_t>(s.config.window)),
      targets(static_cast<std::size_t>(s.rows * score_last));
  fill_with_noise(inputs, s.config.vocab_size);
  fill_with_noise(targets, s.config.vocab_size);
  std::vector<float> nll(targets.size());
  return state_->forecast(count, [&] { score(inputs, targets, score_last, nll); });
}

}  // namespace fairway::adapt
