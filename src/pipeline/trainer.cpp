#include "fairway/pipeline/trainer.h"

#include "fairway/artifact/checkpoint.h"
#include "fairway/base/clock.h"
#include "fairway/base/hash.h"
#include "fairway/model/family.h"
#include "fairway/optim/optimizer.h"
#include "fairway/pipeline/model_file.h"
#include "fairway/pipeline/scoring.h"
#include "fairway/pipeline/train_setup.h"

#include <nlohmann/json.hpp>

#include <algorithm>
#include <cmath>
#include <cstring>

namespace fairway::pipeline {

using base::fail;
using base::fail_input;

namespace {

std::vector<optim::FlatRange> bf16_ranges(const graph::ParameterLayout& layout, const Recipe& r) {
  if (r.optim.tables != "bf16") return {};
  return parameter_map(layout).tables;
}

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

}  // namespace

int micro_batch_rows(const Recipe& r) {
  const auto rows = r.train.batch_tokens / r.model.window;
  if (r.train.micro_batch > 0) {
    if (rows % r.train.micro_batch)
      fail_input("train.micro_batch = {} does not divide the step's {} windows; choose a divisor",
                 r.train.micro_batch, rows);
    return r.train.micro_batch;
  }
  // 4,096 tokens keep every product near its peak rate on a CPU; more only takes memory.
  constexpr std::int64_t tokens = 4096;
  std::int64_t best = 1;
  for (std::int64_t n = 1; n <= rows; ++n)
    if (rows % n == 0 && n * r.model.window <= tokens) best = n;
  return static_cast<int>(best);
}

struct Trainer::State {
  State(const Recipe& r, const Corpus& c, Engine& e)
      : recipe(r),
        corpus(c),
        engine(e),
        rows(pipeline::micro_batch_rows(r)),
        store(model::make_layout(r.model), e.device(), true),
        plan(store, e.runtime(products(r))),
        loader(c.train, {r.train.batch_tokens, r.model.window, r.data.slices}) {
    model::initialise(store, r.model, static_cast<std::uint64_t>(r.seed), e.pool());
    if (!r.train.init.empty()) load_safetensors(store, r.train.init);
    model::BuildOptions build;
    build.rows = rows;
    program = &plan.add(model::build(r.model, store.layout(), build));
    plan.allocate();
    optimizer.emplace(optimizer_config(r), parameter_map(store.layout()), values(), gradients(), e.pool());
    optimizer->round_to_storage(values());  // tables loaded from elsewhere may not be bf16 yet
    if (r.average.kind == "ema") ema.emplace(r.average.decay, values());
    if (r.average.kind == "swa")
      swa.emplace(store.layout().padded_elements(), bf16_ranges(store.layout(), r));
    std::ranges::fill(program->view("weights").span<float>(), weight());
  }

  std::span<float> values() const { return store.flat_values().span<float>(); }
  std::span<float> gradients() const { return store.flat_gradients().span<float>(); }
  float weight() const { return 1.0f / static_cast<float>(recipe.train.batch_tokens); }

  double micro_steps();
  optim::StepReport step(double& loss);
  void average(const optim::StepReport& report);
  bool done() const;
  std::vector<artifact::CheckpointBuffer> buffers();
  std::vector<float> exported();

  const Recipe recipe;
  const Corpus& corpus;
  Engine& engine;
  const int rows;
  graph::ParameterStore store;
  graph::Plan plan;
  graph::Program* program = nullptr;
  data::BatchLoader loader;
  std::optional<optim::Optimizer> optimizer;
  std::optional<optim::Ema> ema;
  std::optional<optim::Swa> swa;
  std::int64_t steps = 0;
  double last_loss = 0;
  TrainClock clock;
  base::Stopwatch since_construction;
};

/// Forward and backward of a whole step; the mean loss.
double Trainer::State::micro_steps() {
  loader.next_step();
  store.zero_gradients();
  double loss = 0;
  const auto tokens = program->view("tokens"), targets = program->view("targets"),
             weights = program->view("weights");
  for (std::int64_t row = 0; row < loader.rows_per_step(); row += rows) {
    loader.rows(row, tokens.span<std::int32_t>(), targets.span<std::int32_t>());
    std::ranges::fill(weights.span<float>(), weight());
    program->run();
    loss += static_cast<double>(program->view("loss").as<float>()[0]);
  }
  return loss;
}

optim::StepReport Trainer::State::step(double& loss) {
  const auto loader_before = loader.state();
  const optim::Progress progress{steps, clock.seconds() * 1000.0};
  loss = micro_steps();
  if (!std::isfinite(loss)) {
    loader.seek(loader_before);
    fail(
        "step {}: the loss is {}; the weights are those after step {} (lower the learning rates or "
        "train.grad_clip)",
        steps + 1, loss, steps);
  }
  const auto report = optimizer->step(progress);
  if (!report.gradient.finite) {
    loader.seek(loader_before);
    fail("step {}: a gradient is not finite; the weights are those after step {} (lower the learning rates)",
         steps + 1, steps);
  }
  ++steps;
  average(report);
  return report;
}

void Trainer::State::average(const optim::StepReport& report) {
  if (ema) ema->update(values(), engine.pool());
  if (swa && report.lr_scale < recipe.average.swa_below && steps % recipe.average.swa_every == 0)
    swa->add(values(), engine.pool());
}

bool Trainer::State::done() const {
  if (steps >= recipe.train.steps) return true;
  return recipe.train.schedule == "wall_clock" && clock.seconds() >= recipe.train.seconds;
}

std::vector<artifact::CheckpointBuffer> Trainer::State::buffers() {
  std::vector<artifact::CheckpointBuffer> result;
  auto take = [&](const std::vector<optim::StateBuffer>& states) {
    for (const auto& s : states) result.push_back({s.name, s.bytes});
  };
  take(optimizer->state());
  if (ema) take(ema->state("average."));
  if (swa) take(swa->state("average."));
  return result;
}

/// The averaged weights; empty when the raw weights are exported.
std::vector<float> Trainer::State::exported() {
  std::vector<float> result;
  if (ema) result.assign(ema->values().begin(), ema->values().end());
  if (swa && swa->count() >= 2) {
    result.resize(static_cast<std::size_t>(store.layout().padded_elements()));
    swa->mean(result, engine.pool());
  }
  if (!result.empty())
    for (const auto& range : bf16_ranges(store.layout(), recipe))
      for (auto i = range.begin; i < range.end; ++i)
        result[static_cast<std::size_t>(i)] = tensor::round_to_bf16(result[static_cast<std::size_t>(i)]);
  return result;
}

Trainer::Trainer(const Recipe& recipe, const Corpus& corpus, Engine& engine)
    : state_(std::make_unique<State>(recipe, corpus, engine)) {}
Trainer::~Trainer() = default;

graph::ParameterStore& Trainer::weights() { return state_->store; }
std::vector<graph::MemoryLine> Trainer::memory_table() const { return state_->plan.memory_table(); }
int Trainer::micro_batch_rows() const { return state_->rows; }
std::int64_t Trainer::steps_done() const { return state_->steps; }

std::unique_ptr<graph::ParameterStore> Trainer::exported_weights() {
  auto& s = *state_;
  auto result = std::make_unique<graph::ParameterStore>(s.store.layout(), s.store.device(), false);
  const auto average = s.exported();
  const auto source = average.empty() ? std::span<const float>(s.values()) : std::span<const float>(average);
  std::ranges::copy(source, result->flat_values().span<float>().begin());
  return result;
}

TrainOutcome Trainer::run(const TrainerHooks& hooks, const std::filesystem::path& checkpoint) {
  auto& s = *state_;
  auto& progress = s.engine.progress();
  const auto& t = s.recipe.train;
  TrainOutcome outcome;
  outcome.parameters = s.store.layout().count();
  outcome.start_seconds = s.since_construction.seconds();
  const double before = s.clock.seconds();
  const auto first = s.steps;
  s.clock.start();
  outcome.last_loss = s.last_loss;
  while (!s.done() && !s.engine.stop().stop_requested()) {
    base::Stopwatch step_clock;
    StepMetrics m;
    try {
      const auto report = s.step(m.loss);
      m.gradient_norm = report.gradient.norm;
      m.lr_scale = report.lr_scale;
    } catch (const base::Error&) {
      s.clock.stop();
      if (!checkpoint.empty()) save(checkpoint);
      throw;
    }
    outcome.last_loss = s.last_loss = m.loss;
    s.clock.stop();
    m.step = s.steps;
    m.seconds = s.clock.seconds();
    m.tokens_per_second = static_cast<double>(t.batch_tokens) / step_clock.seconds();
    if (t.validate_every > 0 && s.steps % t.validate_every == 0 && !s.done() &&
        !s.corpus.validation.tokens.empty()) {
      auto weights = std::make_unique<graph::ParameterStore>(s.store.layout(), s.store.device(), false);
      std::ranges::copy(s.values(), weights->flat_values().span<float>().begin());
      m.validation_loss = score_text(s.recipe.model, *weights, s.corpus.tokenizer, s.corpus.validation,
                                     s.recipe.score, 0, s.engine)
                              .loss;
    }
    if (hooks.on_step && (s.steps % std::max(1, t.log_every) == 0 || s.done() || m.validation_loss))
      hooks.on_step(m);
    progress.update({.task = "train",
                     .done = s.steps,
                     .total = t.steps,
                     .unit = "step",
                     .rate = m.tokens_per_second,
                     .rate_unit = "tokens",
                     .loss = m.loss,
                     .budget_left_seconds = t.schedule == "wall_clock"
                                                ? std::optional(t.seconds - s.clock.seconds())
                                                : std::nullopt});
    if (t.checkpoint_every > 0 && s.steps % t.checkpoint_every == 0 && !s.done() && !checkpoint.empty())
      save(checkpoint);
    s.clock.start();
  }
  s.clock.stop();
  outcome.interrupted = !s.done();
  outcome.steps = s.steps;
  outcome.seconds = s.clock.seconds();
  const auto trained = static_cast<double>((s.steps - first) * t.batch_tokens);
  outcome.tokens_per_second = s.clock.seconds() > before ? trained / (s.clock.seconds() - before) : 0;
  if (!checkpoint.empty()) save(checkpoint);
  return outcome;
}

void Trainer::save(const std::filesystem::path& path) {
  auto& s = *state_;
  artifact::CheckpointContents contents;
  for (const auto& p : s.store.layout().parameters()) {
    std::vector<std::int64_t> shape;
    for (int i = 0; i < p.shape.rank(); ++i) shape.push_back(p.shape[i]);
    contents.tensors.push_back({p.name, shape, s.store.value(p.name).span<float>()});
  }
  contents.buffers = s.buffers();
  const auto average = s.exported();
  if (!average.empty()) contents.buffers.push_back({"exported", std::as_bytes(std::span(average))});
  contents.metadata =
      nlohmann::ordered_json{
          {"step", s.steps},
          {"seconds", s.clock.seconds()},
          {"loss", s.last_loss},
          {"loader", {{"step", s.loader.state().step}, {"position", s.loader.state().position}}},
          {"rows", s.rows},
          {"build", build_version()},
          {"device", s.store.device().str()},
          {"isa", std::string(base::isa_name(s.engine.isa()))},
          {"data", nlohmann::ordered_json::parse(s.corpus.manifest)}}
          .dump();
  contents.tokenizer = tokenizer_section(s.corpus.tokenizer);
  contents.recipe_text = to_portable_toml(s.recipe);
  artifact::write_checkpoint(path, contents);
}

void Trainer::restore(const std::filesystem::path& path) {
  auto& s = *state_;
  const auto checkpoint = artifact::Checkpoint::open(path);
  const auto what = path.string();
  if (!checkpoint.tokenizer() ||
      base::hash64(checkpoint.tokenizer()->model) != s.corpus.tokenizer.fingerprint())
    fail_input("{}: made with another tokenizer than the one the recipe gives now", what);
  for (const auto& p : s.store.layout().parameters()) {
    const auto* t = checkpoint.tensor(p.name);
    if (!t || static_cast<std::int64_t>(t->values.size()) != p.elements())
      fail_input("{}: tensor '{}' is missing or has another size", what, p.name);
    std::ranges::copy(t->values, s.store.value(p.name).span<float>().begin());
  }
  for (const auto& mine : s.buffers()) {
    const auto* saved = checkpoint.buffer(mine.name);
    if (!saved || saved->bytes.size() != mine.bytes.size())
      fail_input("{}: state '{}' is missing or has another size", what, mine.name);
    std::memcpy(const_cast<std::byte*>(mine.bytes.data()), saved->bytes.data(), saved->bytes.size());
  }
  const auto meta = nlohmann::json::parse(checkpoint.metadata(), nullptr, false);
  if (!meta.is_object() || !meta.contains("step") || !meta.contains("loader"))
    fail_input("{}: the checkpoint's metadata is damaged", what);
  s.steps = meta["step"].get<std::int64_t>();
  s.clock.set(meta["seconds"].get<double>());
  s.last_loss = meta.value("loss", 0.0);
  s.loader.seek(
      {meta["loader"]["step"].get<std::uint64_t>(), meta["loader"]["position"].get<std::uint64_t>()});
  if (meta["rows"].get<int>() != s.rows)
    s.engine.progress().warning(
        fmt::format("micro-batches of {} windows instead of {}: bits will differ from an uninterrupted run",
                    s.rows, meta["rows"].get<int>()));
}

}  // namespace fairway::pipeline
