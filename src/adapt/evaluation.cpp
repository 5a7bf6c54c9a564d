#include "evaluation.h"

#include <algorithm>
#include <cmath>
#include <limits>

#include "fairway/base/error.h"
#include "fairway/base/random.h"

namespace fairway::adapt {
namespace {

std::vector<Selection> selections_of(const Protocol& p, const graph::ParameterLayout& layout,
                                     const model::ModelConfig& config) {
  std::vector<Selection> all;
  for (const auto& phase : p.phases) all.push_back(select(phase, layout, config, p.tables));
  return all;
}

AdaptedModelOptions model_options(const Protocol& p, const std::vector<Selection>& selections,
                                  const score::WindowPlan& windows, const EvaluateOptions& options,
                                  std::int64_t train_windows, std::int64_t score_windows) {
  AdaptedModelOptions m;
  m.train_windows = train_windows;
  m.score_windows = score_windows;
  m.fake_quantize = p.fake_quantize;
  m.phases = selections;
  m.score_lengths = windows.score_lengths();
  m.logits = options.audit_windows > 0;
  return m;
}

}  // namespace

Evaluation::Evaluation(const Protocol& protocol, const model::ModelConfig& config,
                       const graph::ParameterStore& weights, const exec::Engine& engine,
                       score::TokenView tokens, const EvaluateOptions& options,
                       const score::WindowPlan& windows, std::int64_t train_windows,
                       std::int64_t score_windows)
    : protocol_(protocol),
      engine_(engine),
      options_(options),
      tokens_(tokens),
      windows_(windows),
      selections_(selections_of(protocol, weights.layout(), config)),
      model_(config, weights, engine,
             model_options(protocol, selections_, windows, options, train_windows, score_windows)),
      ledger_(score::ledger_options(windows, options.text)),
      gate_(tokens, ledger_),
      runner_(tokens, windows.window(), model_.scorer()),
      ranks_(options.ranks ? options.ranks : &single_) {
  if (options.ppm_weight > 0) ppm_.emplace(config.vocab_size, options.ppm_weight);
  if (options.keep_scores)
    result_.nll.assign(static_cast<std::size_t>(windows.targets()), std::numeric_limits<float>::quiet_NaN());
}

void Evaluation::forecast(const Work& work) {
  double seconds = 0;
  for (std::size_t phase = 0; phase < work.training.size(); ++phase) {
    const auto [steps, batches] = work.training[phase];
    if (steps == 0) continue;
    const int at = static_cast<int>(phase);
    seconds += model_.forecast_batches(at, batches) + model_.forecast_updates(at, steps);
  }
  for (const auto& [length, calls] : work.scoring) seconds += model_.forecast_scoring(length, calls);
  result_.forecast_seconds = seconds;
  const base::Random random(protocol_.seed, "adapt/audit");
  if (work.windows > 0)
    for (int i = 0; i < options_.audit_windows; ++i)
      audited_.insert(static_cast<std::int64_t>(
          random.below(static_cast<std::uint64_t>(i), static_cast<std::uint64_t>(work.windows))));
  const double budget = options_.budget_seconds;
  engine_.progress().note(fmt::format("adapting and scoring will take about {:.0f} s{}", seconds,
                                      budget > 0 ? fmt::format(" of {:.0f} s allowed", budget) : ""));
  if (budget > 0 && seconds > budget && options_.budget == Budget::enforce)
    base::fail_input(
        "budget.eval_seconds = {:.0f}: adapting and scoring would take about {:.0f} s here; fewer "
        "adapt.epochs, a larger budget, or adapt.budget = \"report\"",
        budget, seconds);
  watch_.restart();
}

void Evaluation::check_time(std::string_view where) {
  if (engine_.stop().stop_requested())
    throw base::Error(base::ErrorKind::interrupted, fmt::format("stopped while {}", where));
  if (options_.budget_seconds > 0 && watch_.seconds() > options_.budget_seconds) {
    result_.over_budget = true;
    if (options_.budget == Budget::enforce)
      base::fail(
          "budget.eval_seconds = {:.0f} is used up while {}; a larger budget, less adaptation, or "
          "adapt.budget = \"report\"",
          options_.budget_seconds, where);
  }
}

void Evaluation::train_step(int phase, const std::vector<RankLessons>& batches, optim::Optimizer& optimizer,
                            double lr, std::function<void(double)> done) {
  check_time("adapting");
  base::Stopwatch watch;
  const auto own = dist::share(protocol_.virtual_ranks, ranks_->rank(), ranks_->size());
  std::vector<WeightedWindow> lessons;
  std::int64_t windows = 0;
  for (const auto& batch : batches) {
    windows += static_cast<std::int64_t>(batch.lessons.size());
    if (batch.rank < own.begin || batch.rank >= own.end) continue;
    const double weight =
        1.0 / (static_cast<double>(batch.lessons.size()) * static_cast<double>(batches.size()));
    for (const auto& lesson : batch.lessons) lessons.push_back({lesson, weight});
  }
  model_.step(phase, lessons, optimizer, lr, *ranks_);
  waiting_.push_back(std::move(done));
  while (model_.queued() > model_.depth()) settle_one();
  result_.train_seconds += watch.seconds();
  result_.tokens_trained += windows * windows_.window();
}

void Evaluation::settle() {
  base::Stopwatch watch;
  while (model_.queued() > 0) settle_one();
  result_.train_seconds += watch.seconds();
}

void Evaluation::settle_one() {
  auto [loss, gradient] = model_.collect();
  ranks_->sum(std::span(&loss, 1));
  ++steps_;
  if (!std::isfinite(loss)) base::fail("adaptation step {}: the loss is {} (lower adapt.lr)", steps_, loss);
  if (!gradient.finite) base::fail("adaptation step {}: a gradient is not finite (lower adapt.lr)", steps_);
  const auto done = std::move(waiting_.front());
  waiting_.pop_front();
  done(loss);
}

void Evaluation::run_windows(std::span<const score::Window> windows, const score::WindowSink& sink) {
  const auto piece = static_cast<std::size_t>(model_.scorer().rows()) * 8;
  while (!windows.empty()) {
    check_time("scoring");
    base::Stopwatch watch;
    const auto some = windows.first(std::min(piece, windows.size()));
    runner_.run(some, windows_run_, [&](const score::Window& w, std::span<const float> nll) {
      if (audited_.contains(windows_run_++)) audit(w, nll);
      sink(w, nll);
    });
    windows = windows.subspan(some.size());
    result_.score_seconds += watch.seconds();
  }
}

double distribution_error(float nll, std::span<const float> logits, std::int32_t target) {
  const double shift =
      -static_cast<double>(nll) - static_cast<double>(logits[static_cast<std::size_t>(target)]);
  double sum = 0;
  for (float l : logits) sum += std::exp(static_cast<double>(l) + shift);
  return std::abs(sum - 1.0);
}

/// Sums the distributions that a window's scores belong to.
void Evaluation::audit(const score::Window& w, std::span<const float> nll) {
  std::vector<std::int32_t> inputs(static_cast<std::size_t>(windows_.window()));
  tokens_.copy(w.start, std::span(inputs).first(static_cast<std::size_t>(w.length)));
  const auto logits = model_.logits(inputs);
  const auto vocabulary = logits.size() / inputs.size();
  for (std::size_t i = 0; i < nll.size(); ++i) {
    const auto position = static_cast<std::size_t>(w.score_from) + i;
    const auto row = logits.subspan(position * vocabulary, vocabulary);
    const auto target = tokens_[w.start + static_cast<std::int64_t>(position) + 1];
    result_.audit.add(distribution_error(nll[i], row, target));
  }
}

void Evaluation::commit(std::int64_t first, std::span<const float> nll, const score::ScoreOrigin& origin) {
  const auto n = static_cast<std::int32_t>(nll.size());
  score::count_bytes(tokens_, {first, n, 0, n}, options_.count, bytes_);
  if (ppm_) nll = ppm_->apply(first, tokens_, nll);
  ledger_.commit(first, nll, bytes_, origin);
  if (options_.keep_scores) std::ranges::copy(nll, result_.nll.begin() + first);
}

bool Evaluation::done() const { return options_.until && ledger_.committed_prefix() >= *options_.until; }

TrainingResult& Evaluation::training(const std::string& what, int phase) {
  auto& all = result_.training;
  const auto known = std::find_if(all.begin(), all.end(), [&](const auto& t) { return t.what == what; });
  if (known != all.end()) return *known;
  const auto& s = selection(phase);
  all.push_back({what, static_cast<std::int64_t>(s.names.size()), s.elements, 0, 0, {}, {}, 0});
  return all.back();
}

void Evaluation::progress(std::string_view task, std::int64_t done, std::int64_t total, std::string_view unit,
                          double loss) {
  base::Progress p;
  p.task = task;
  p.done = done;
  p.total = total;
  p.unit = unit;
  if (std::isfinite(loss)) p.loss = loss;
  if (options_.budget_seconds > 0) p.budget_left_seconds = options_.budget_seconds - watch_.seconds();
  engine_.progress().update(p);
}

EvaluateResult Evaluation::result() {
  auto r = std::move(result_);
  r.score = score::result_of(ledger_, options_.byte_rule);
  if (ppm_) r.score.verdict.notes.push_back(ppm_->note());
  r.score.windows = windows_run_;
  r.score.skipped_targets = windows_.skipped_targets();
  r.score.window = windows_.window();
  r.score.stride = windows_.stride();
  r.score.by_documents = windows_.by_documents();
  r.score.tail = windows_.tail();
  r.score.seconds = watch_.seconds();
  r.order = ledger_.order();
  r.repeats = ledger_.repeats();
  r.missing = windows_.targets() - (ledger_.tokens() - ledger_.repeats());
  r.learnt_committed = gate_.committed_targets();
  r.learnt_uncommitted = gate_.uncommitted_targets();
  return r;
}

EvaluateResult evaluate(const Protocol& protocol, const model::ModelConfig& config,
                        const graph::ParameterStore& weights, const exec::Engine& engine,
                        score::TokenView tokens, const EvaluateOptions& options) {
  validate(protocol);
  base::check(static_cast<bool>(options.count), "evaluate without a byte counter");
  const auto n = tokens.size();
  if (protocol.when == When::score_first) {
    const StreamPlan plan(protocol, n, config.window, options.stride, options.tail);
    const auto& p = protocol;
    const std::int64_t chunk = std::int64_t{p.chunk_windows} * config.window / plan.windows().stride();
    Evaluation evaluation(p, config, weights, engine, tokens, options, plan.windows(),
                          std::min(p.batch_windows, p.chunk_windows), chunk);
    evaluation.forecast(work_of(p, plan, evaluation.model()));
    adapt_streaming(evaluation, plan);
    return evaluation.result();
  }
  const auto windows = exec::plan_windows(config, tokens, options.stride, options.tail);
  const EpochPlan plan(protocol, windows.targets(), config.window);
  Evaluation evaluation(protocol, config, weights, engine, tokens, options, windows,
                        std::int64_t{protocol.virtual_ranks} * protocol.batch_windows, windows.size());
  evaluation.forecast(work_of(protocol, plan, windows, evaluation.model()));
  adapt_before(evaluation, plan, windows);
  return evaluation.result();
}

}  // namespace fairway::adapt
