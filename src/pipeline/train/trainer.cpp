#include "fairway/pipeline/train/trainer.h"

#include "fairway/artifact/checkpoint.h"
#include "fairway/base/clock.h"
#include "fairway/base/hash.h"
#include "fairway/pipeline/stages/model_file.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/pipeline/stages/scoring.h"
#include "fairway/pipeline/train/save_timer.h"
#include "train/train_checkpoint.h"
#include "train/train_schedule.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <deque>

namespace fairway::pipeline {

using base::fail;
using base::fail_input;

namespace {

/// Training time: validation and checkpoints stop it.
class TrainClock {
 public:
  void start() { running_.emplace(); }
  void stop() {
    total_ = seconds();
    running_.reset();
  }
  void set(double seconds) { total_ = seconds; }
  double seconds() const { return total_ + (running_ ? running_->seconds() : 0.0); }

 private:
  double total_ = 0;
  std::optional<base::Stopwatch> running_;
};

constexpr const char* kProgressBuffer = "progress.elapsed_ms";

bool all_finite(std::span<const float> values) {
  return std::ranges::all_of(values, [](float v) { return std::isfinite(v); });
}

}  // namespace

struct Trainer::State {
  State(const Recipe& r, const Corpus& c, exec::Engine& e, std::unique_ptr<TrainBackend> b)
      : recipe(r),
        corpus(c),
        engine(e),
        schedule(r),
        backend(b ? std::move(b) : make_train_backend(r, e)),
        loader(c.train, batch_shape(r)),
        save_timer(r.train.checkpoint_every > 0 ? 0 : r.train.checkpoint_seconds) {}

  /// A submitted step whose result is not there yet.
  struct InFlight {
    StepPlan plan;
    data::LoaderState loader_before;
    bool qat_began = false;
  };

  std::int64_t submitted() const { return steps + static_cast<std::int64_t>(in_flight.size()); }
  optim::Progress progress() const;
  double seconds_left() const;
  std::optional<TrainEnd> end() const;
  bool may_submit() const;
  void submit();
  std::optional<StepMetrics> collect();
  void roll_back(const StepOutcome& outcome, const InFlight& bad);
  void after_step(StepMetrics& m, const MetricsSinks& sinks, const std::filesystem::path& checkpoint,
                  Trainer& trainer);
  bool save_is_due() const { return saves && save_timer.due(); }
  void save_unasked(const std::filesystem::path& checkpoint, Trainer& trainer);
  std::optional<double> validate();
  void show(const StepMetrics& m) const;
  bool average_applies() const;
  std::optional<std::vector<float>> average();
  void restore(const artifact::Checkpoint& checkpoint, const std::string& what);
  void note_changes(const TrainMetadata& saved);
  TrainMetadata metadata() const;

  base::Stopwatch since_construction;  // first: the backend's start counts
  const Recipe recipe;
  const Corpus& corpus;
  exec::Engine& engine;
  const TrainSchedule schedule;
  std::unique_ptr<TrainBackend> backend;
  data::BatchLoader loader;
  std::deque<InFlight> in_flight;
  std::int64_t steps = 0;  ///< completed and collected
  std::int64_t qat_step = 0;
  double last_loss = 0;
  double step_seconds = 0;         ///< of recent steps, smoothed
  double roofline_seconds = 0;     ///< of the steps of this run()
  std::vector<double> elapsed_ms;  ///< at the beginning of each submitted step
  std::optional<std::vector<double>> replayed;
  std::optional<TrainEnd> ended;  ///< training is done, whatever the schedule says now
  std::string bad_step;
  std::vector<std::string> changes;
  TrainClock clock;
  base::Stopwatch since_collect;
  SaveTimer save_timer;
  bool saves = false;        ///< there is a checkpoint to write
  double pause_seconds = 0;  ///< validation and checkpoints
};

/// Where the next step begins.
optim::Progress Trainer::State::progress() const {
  const auto step = submitted();
  if (replayed && step < static_cast<std::int64_t>(replayed->size()))
    return {step, (*replayed)[static_cast<std::size_t>(step)]};
  if (!schedule.step_ms({})) return {step, clock.seconds() * 1000.0};
  if (step == 0) return {};
  const double before = elapsed_ms.back();
  return {step, before + *schedule.step_ms({step - 1, before})};
}

/// Of a schedule by the clock; of one that counts steps, at the pace of this machine.
double Trainer::State::seconds_left() const {
  const double limit = recipe.train.seconds - recipe.train.reserve_seconds;
  const auto at = progress();
  const auto counted = schedule.step_ms(at);
  if (!counted) return limit - clock.seconds();
  return ((limit * 1000.0 - at.elapsed_ms) / *counted + static_cast<double>(in_flight.size())) * step_seconds;
}

/// Why no further step begins.
std::optional<TrainEnd> Trainer::State::end() const {
  if (ended) return ended;
  if (replayed)
    return submitted() >= static_cast<std::int64_t>(replayed->size()) ? std::optional(TrainEnd::replay)
                                                                      : std::nullopt;
  if (schedule.at_end(progress())) return TrainEnd::schedule;
  const auto& b = recipe.budget;
  const double next_done = clock.seconds() + step_seconds * static_cast<double>(in_flight.size() + 1);
  if (b.enforce && b.train_seconds > 0 && next_done > b.train_seconds) return TrainEnd::budget;
  return {};
}

bool Trainer::State::may_submit() const {
  if (static_cast<int>(in_flight.size()) > backend->depth()) return false;
  // Weights are looked at with nothing in flight.
  if (!in_flight.empty() && (schedule.pauses_after(submitted()) || save_is_due())) return false;
  return !engine.stop().stop_requested() && !end();
}

void Trainer::State::submit() {
  const auto at = progress();
  const bool begins = qat_step == 0 && schedule.qat_begins(at);
  in_flight.push_back({schedule.plan(at, qat_step > 0, elapsed_ms), loader.state(), begins});
  if (begins) qat_step = at.step + 1;
  elapsed_ms.push_back(at.elapsed_ms);
  loader.next_step();
  backend->submit(loader, in_flight.back().plan);
}

/// Nothing when the step went bad: the run is then back after the step before, and `bad_step` says what it
/// was.
std::optional<StepMetrics> Trainer::State::collect() {
  const auto outcome = backend->collect();
  const auto step = in_flight.front();
  in_flight.pop_front();
  if (!outcome.finite()) {
    roll_back(outcome, step);
    return {};
  }
  last_loss = outcome.loss;
  const double took = outcome.seconds > 0 ? outcome.seconds : since_collect.seconds();
  since_collect.restart();
  step_seconds = step_seconds > 0 ? 0.8 * step_seconds + 0.2 * took : took;
  ++steps;
  if (step.qat_began)
    engine.progress().note(fmt::format("late QAT {} at step {} (learning-rate scale {:.4f})",
                                       recipe.qat.inert ? "would begin (qat.inert)" : "begins", steps,
                                       step.plan.lr_scale));
  StepMetrics m;
  m.step = steps;
  m.loss = outcome.loss;
  m.gradient_norm = outcome.gradient.norm;
  m.lr_scale = step.plan.lr_scale;
  m.fake_quantised = step.plan.fake_quantise;
  m.seconds = clock.seconds();
  m.tokens_per_second = static_cast<double>(recipe.train.batch_tokens) / took;
  roofline_seconds += outcome.roofline_seconds;
  if (outcome.roofline_seconds > 0) m.roofline = outcome.roofline_seconds / took;
  return m;
}

/// Back to the state after the last good step; it and those in flight have changed no weights.
void Trainer::State::roll_back(const StepOutcome& outcome, const InFlight& bad) {
  for (; !in_flight.empty(); in_flight.pop_front()) backend->collect();
  loader.seek(bad.loader_before);
  elapsed_ms.resize(static_cast<std::size_t>(steps));
  if (qat_step > steps) qat_step = 0;
  const auto what =
      std::isfinite(outcome.loss) ? "a gradient is not finite" : fmt::format("the loss is {}", outcome.loss);
  bad_step = fmt::format(
      "step {}: {}; the weights are those after step {} (lower the learning rates or train.grad_clip)",
      steps + 1, what, steps);
}

/// Nothing when a stop is requested: the training must still be saved.
std::optional<double> Trainer::State::validate() {
  graph::ParameterStore copy(backend->weights().layout(), {}, false);
  exec::write_weights(copy, exec::read_weights(backend->weights()));
  try {
    return score_text(recipe.model, copy, corpus.tokenizer, corpus.validation, recipe.score, 0, engine).loss;
  } catch (const base::Error& e) {
    if (e.kind() != base::ErrorKind::interrupted) throw;
    return {};
  }
}

/// SWA of fewer than average.swa_min snapshots is not used (docs/spec/training.md section 10).
bool Trainer::State::average_applies() const {
  const auto& a = recipe.average;
  return a.kind == Average::ema ||
         (a.kind == Average::swa && average_count(recipe, backend->optimizer()) >= a.swa_min);
}

/// The averaged weights; nothing when the last ones are exported.
std::optional<std::vector<float>> Trainer::State::average() {
  if (!average_applies()) return {};
  return read_average(recipe, backend->optimizer(), backend->weights().layout());
}

void Trainer::State::show(const StepMetrics& m) const {
  std::optional<double> left;
  if (recipe.train.by_clock() && !replayed) left = seconds_left();
  if (recipe.budget.enforce && recipe.budget.train_seconds > 0)
    left = std::min(left.value_or(1e18), recipe.budget.train_seconds - clock.seconds());
  auto total = replayed ? static_cast<std::int64_t>(replayed->size()) : recipe.train.steps;
  if (left && step_seconds > 0) {  // train.steps only caps a run that ends by time
    const auto more = static_cast<std::int64_t>(std::ceil(std::max(0.0, *left) / step_seconds));
    total = std::min(total, steps + std::max(more, static_cast<std::int64_t>(in_flight.size())));
  }
  engine.progress().update({.task = "train",
                            .done = steps,
                            .total = total,
                            .unit = "step",
                            .rate = m.tokens_per_second,
                            .rate_unit = "tokens",
                            .roofline = m.roofline,
                            .loss = m.loss,
                            .budget_left_seconds = left});
}

/// A save that nobody asked for ends no run.
void Trainer::State::save_unasked(const std::filesystem::path& checkpoint, Trainer& trainer) {
  const base::Stopwatch watch;
  try {
    trainer.save(checkpoint);
  } catch (const base::Error& e) {
    engine.progress().warning(fmt::format("not saved after step {}: {}", steps, e.what()));
  }
  save_timer.saved(watch.seconds());
}

/// Log, validation and checkpoint; the schedule has seen to it that nothing is in flight where they are due.
void Trainer::State::after_step(StepMetrics& m, const MetricsSinks& sinks,
                                const std::filesystem::path& checkpoint, Trainer& trainer) {
  const auto& t = recipe.train;
  const bool last = in_flight.empty() && end().has_value();
  const bool unasked = in_flight.empty() && save_is_due();
  const bool pause = (schedule.pauses_after(steps) || unasked) && !last;
  const base::Stopwatch paused;
  if (pause) clock.stop();
  if (pause && t.validate_every > 0 && steps % t.validate_every == 0 && !corpus.validation.tokens.empty())
    m.validation_loss = validate();
  if (steps % t.log_every == 0 || last || m.validation_loss)
    for (const auto& sink : sinks) sink(m);
  show(m);
  if (pause && t.checkpoint_every > 0 && steps % t.checkpoint_every == 0 && !checkpoint.empty())
    trainer.save(checkpoint);
  if (pause && unasked) save_unasked(checkpoint, trainer);
  if (!pause) return;
  pause_seconds += paused.seconds();
  since_collect.restart();
  clock.start();
}

Trainer::Trainer(const Recipe& recipe, const Corpus& corpus, exec::Engine& engine,
                 std::unique_ptr<TrainBackend> backend)
    : state_(std::make_unique<State>(recipe, corpus, engine, std::move(backend))) {}
Trainer::~Trainer() = default;

graph::ParameterStore& Trainer::weights() { return state_->backend->weights(); }
quant::Sensitivity Trainer::sensitivity() {
  auto& s = *state_;
  return guided_bits(s.recipe) ? s.backend->optimizer().mean_squares() : quant::Sensitivity{};
}
std::vector<graph::MemoryLine> Trainer::memory_table() const { return state_->backend->memory_table(); }
int Trainer::micro_batch_rows() const { return state_->backend->model().rows; }
std::int64_t Trainer::steps_done() const { return state_->steps; }
void Trainer::replay(std::vector<double> elapsed_ms) { state_->replayed = std::move(elapsed_ms); }
std::span<const double> Trainer::progress_log() const { return state_->elapsed_ms; }

std::unique_ptr<graph::ParameterStore> Trainer::raw_weights() {
  const auto& raw = state_->backend->weights();
  auto result = std::make_unique<graph::ParameterStore>(raw.layout(), tensor::Device{}, false);
  exec::write_weights(*result, exec::read_weights(raw));
  return result;
}

std::unique_ptr<graph::ParameterStore> Trainer::exported_weights() {
  auto& s = *state_;
  auto& raw = s.backend->weights();
  auto result = std::make_unique<graph::ParameterStore>(raw.layout(), tensor::Device{}, false);
  const auto average = s.average();
  exec::write_weights(*result, average ? *average : exec::read_weights(raw));
  return result;
}

TrainOutcome Trainer::run(const MetricsSinks& sinks, const std::filesystem::path& checkpoint) {
  auto& s = *state_;
  TrainOutcome outcome;
  outcome.parameters = s.backend->weights().layout().count();
  outcome.start_seconds = s.since_construction.seconds();
  const double before = s.clock.seconds();
  const auto first = s.steps;
  s.saves = !checkpoint.empty();
  s.save_timer.start();
  s.clock.start();
  s.since_collect.restart();
  s.roofline_seconds = 0;
  while (true) {
    while (s.may_submit()) s.submit();
    if (s.in_flight.empty()) break;
    auto m = s.collect();
    if (!m) stop_at_bad_step(checkpoint);
    s.after_step(*m, sinks, checkpoint, *this);
  }
  const auto end = s.end();
  s.clock.stop();
  s.ended = end;
  outcome.end = end.value_or(TrainEnd::stopped);
  outcome.interrupted = !end;
  outcome.steps = s.steps;
  outcome.last_loss = s.last_loss;
  outcome.seconds = s.clock.seconds();
  outcome.qat_step = s.qat_step;
  outcome.average_count = s.average_applies() ? average_count(s.recipe, s.backend->optimizer()) : 0;
  outcome.changes = s.changes;
  const auto trained = static_cast<double>((s.steps - first) * s.recipe.train.batch_tokens);
  const double took = s.clock.seconds() - before;
  outcome.tokens_per_second = took > 0 ? trained / took : 0;
  if (s.roofline_seconds > 0 && took > 0) outcome.roofline = s.roofline_seconds / took;
  const base::Stopwatch saving;
  if (!checkpoint.empty()) save(checkpoint);
  outcome.pause_seconds = s.pause_seconds + saving.seconds();
  return outcome;
}

/// Saves the last good state, where it can be, and fails.
void Trainer::stop_at_bad_step(const std::filesystem::path& checkpoint) {
  auto& s = *state_;
  s.clock.stop();
  std::string unsaved;
  try {
    if (!checkpoint.empty()) save(checkpoint);
  } catch (const base::Error& e) {
    unsaved = fmt::format("; {}", e.what());
  }
  fail("{}{}", s.bad_step, unsaved);
}

TrainMetadata Trainer::State::metadata() const {
  TrainMetadata m;
  m.step = steps;
  m.seconds = clock.seconds();
  m.loss = last_loss;
  if (ended) m.end = base::name_of(*ended);
  m.qat_step = qat_step;
  m.loader = loader.state();
  m.rows = backend->model().rows;
  m.build = build_version();
  m.device = backend->weights().device().str();
  m.isa = std::string(base::isa_name(engine.isa()));
  m.changes = changes;
  m.data = corpus.manifest;
  return m;
}

void Trainer::save(const std::filesystem::path& path) {
  auto& s = *state_;
  const auto weights = exec::read_weights(s.backend->weights());
  const auto average = s.average();
  if (!all_finite(weights) || (average && !all_finite(*average)))
    fail("step {}: weights are not finite and not saved; {} is still the state before", s.steps,
         path.string());
  artifact::CheckpointContents contents;
  for (const auto& p : s.backend->weights().layout().parameters()) {
    std::vector<std::int64_t> shape;
    for (int i = 0; i < p.shape.rank(); ++i) shape.push_back(p.shape[i]);
    contents.tensors.push_back({p.name, shape,
                                std::span(weights).subspan(static_cast<std::size_t>(p.offset),
                                                           static_cast<std::size_t>(p.elements()))});
  }
  const auto measured = sensitivity();
  for (const auto& piece : s.backend->optimizer().save())
    contents.buffers.push_back({piece.name, piece.bytes});
  contents.buffers.push_back({kProgressBuffer, std::as_bytes(std::span(s.elapsed_ms))});
  if (average) contents.buffers.push_back({"exported", std::as_bytes(std::span(*average))});
  const auto sensitivities = sensitivity_text(measured);
  if (!measured.empty())
    contents.buffers.push_back({kSensitivityBuffer, std::as_bytes(std::span(sensitivities))});
  contents.metadata = s.metadata().to_json();
  contents.tokenizer = tokenizer_section(s.corpus.tokenizer);
  contents.recipe_text = to_portable_toml(s.recipe);
  store_checkpoint(path, s.steps, s.recipe.train.keep_checkpoints,
                   [&](const std::filesystem::path& file) { artifact::write_checkpoint(file, contents); });
}

void Trainer::restore(const std::filesystem::path& path) {
  auto& s = *state_;
  const auto candidates = stored_checkpoints(path);
  if (candidates.empty()) fail_input("{}: no such checkpoint", path.string());
  for (std::size_t i = 0;; ++i) {
    try {
      const auto checkpoint = artifact::Checkpoint::open(candidates[i]);
      return s.restore(checkpoint, candidates[i].string());
    } catch (const base::Error& e) {
      if (e.kind() != base::ErrorKind::input || i + 1 == candidates.size()) throw;
      s.engine.progress().warning(fmt::format("{}; trying {}", e.what(), candidates[i + 1].string()));
    }
  }
}

void Trainer::State::restore(const artifact::Checkpoint& checkpoint, const std::string& what) {
  const auto meta = TrainMetadata::parse(checkpoint.metadata(), what);
  check_same_data(meta.data, corpus.manifest, what);
  if (!checkpoint.tokenizer() ||
      base::hash64(checkpoint.tokenizer()->model) != corpus.tokenizer.fingerprint())
    fail_input("{}: made with another tokenizer than the one the recipe gives now", what);
  const optim::StateSource saved = [&](std::string_view name, std::size_t bytes) {
    const auto* found = checkpoint.buffer(name);
    if (!found || found->bytes.size() != bytes)
      fail_input("{}: state '{}' is missing or has another size", what, name);
    return found->bytes;
  };
  const auto& layout = backend->weights().layout();
  std::vector<float> flat(static_cast<std::size_t>(layout.padded_elements()));
  for (const auto& p : layout.parameters()) {
    const auto* t = checkpoint.tensor(p.name);
    if (!t || static_cast<std::int64_t>(t->values.size()) != p.elements())
      fail_input("{}: tensor '{}' is missing or has another size", what, p.name);
    std::ranges::copy(t->values, flat.begin() + p.offset);
  }
  if (checkpoint.tensors().size() != layout.parameters().size())
    fail_input("{}: holds more tensors than the recipe's model; only the version that made it can go on",
               what);
  const auto log = saved(kProgressBuffer, static_cast<std::size_t>(meta.step) * sizeof(double));
  exec::write_weights(backend->weights(), flat);
  backend->optimizer().restore(saved);
  backend->optimizer().enqueue_clear_flag();
  elapsed_ms.resize(static_cast<std::size_t>(meta.step));
  if (!log.empty()) std::memcpy(elapsed_ms.data(), log.data(), log.size());
  steps = meta.step;
  clock.set(meta.seconds);
  step_seconds = steps > 0 ? meta.seconds / static_cast<double>(steps) : 0;
  last_loss = meta.loss;
  ended = base::parse_name<TrainEnd>(meta.end);
  if (ended == TrainEnd::stopped) ended.reset();  // it goes on
  qat_step = meta.qat_step;
  loader.seek(meta.loader);
  changes = meta.changes;
  note_changes(meta);
}

/// What makes the rest of the run round differently from the part before
/// (docs/architecture.md, "Checkpoints": other micro-batches, devices and instruction sets are allowed, said
/// and marked; threads never matter).
void Trainer::State::note_changes(const TrainMetadata& saved) {
  const auto now = metadata();
  auto compare = [&](const char* what, const std::string& before, const std::string& after) {
    if (before == after) return;
    changes.push_back(fmt::format("{} {} instead of {} after step {}", what, after, before, steps));
    engine.progress().warning(fmt::format("{}: bits will differ from an uninterrupted run", changes.back()));
  };
  compare("micro-batches of", std::to_string(saved.rows), std::to_string(now.rows));
  compare("device", saved.device, now.device);
  compare("instruction set", saved.isa, now.isa);
  compare("build", saved.build, now.build);
}

}  // namespace fairway::pipeline
