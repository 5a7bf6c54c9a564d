#include "train/model_backend.h"

#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/pipeline/train/train_setup.h"
#include "fairway/tensor/cuda.h"

#include <algorithm>
#include <cmath>

namespace fairway::pipeline {

using exec::ComputeWeights;

bool StepOutcome::finite() const { return std::isfinite(loss) && gradient.finite; }

std::vector<graph::MemoryLine> TrainBackend::memory_table() {
  auto table = model().runner->memory_table();
  table.push_back({"optimiser and averages", optimizer().bytes()});
  return table;
}

std::unique_ptr<TrainBackend> make_train_backend(const Recipe& recipe, const exec::Engine& engine) {
  return std::make_unique<ModelBackend>(recipe, engine);
}

namespace {

/// Measured before a run takes its memory; nothing where there is little, which the run itself will tell.
std::optional<exec::DeviceRates> measured_rates(const Recipe& r, const exec::Engine& engine) {
  constexpr std::size_t enough = 2ull << 30;
  if (!engine.cuda() || tensor::cuda_device(engine.device()).free_bytes < enough) return {};
  return exec::measure_rates(exec::Form::on(engine, r.model).dtype, engine);
}

}  // namespace

ModelBackend::ModelBackend(const Recipe& r, const exec::Engine& engine)
    : recipe_(r), engine_(engine), rates_(measured_rates(r, engine)), model_(make_training_model(r, engine)) {
  auto& store = weights();
  initial_weights(r, store, engine.pool());
  optimizer_ = optim::make_optimizer(optimizer_config(r, store.layout()), store.flat_values(),
                                     store.flat_gradients(), &engine.pool(), engine.cuda());
  auto& runner = *model_.runner;
  runner.allocate();
  for (const auto kind : {ComputeWeights::plain, ComputeWeights::quantised}) {
    const auto at = static_cast<std::size_t>(kind);
    begin_[at] = exec::Recorded(engine, [this, refresh = runner.refresh_program(kind)] {
      optimizer_->enqueue_zero_gradients();
      if (refresh) refresh->launch();
    });
    auto* const unfold = runner.unfold_program(*model_.program, kind);
    add_rank_[at] = exec::Recorded(engine, [this, unfold] {
      if (unfold) unfold->launch();
      optimizer_->enqueue_add_rank();
    });
    finish_[at] = exec::Recorded(engine, [this, unfold] {
      if (unfold && !clips_by_rank(recipe_)) unfold->launch();
      optimizer_->enqueue();
    });
  }
  roofline_seconds_[1] = roofline_seconds(*model_.program);
  roofline_seconds_[0] = model_.early ? roofline_seconds(*model_.early) : roofline_seconds_[1];
}

ModelBackend::~ModelBackend() {
  // Queued work still uses our memory; a failure of it was reported, or nobody asks for its result any more.
  try {
    engine_.synchronize();
  } catch (const base::Error&) {
  }
}

/// Of a step without fake quantisation; 0 where no rates are known.
double ModelBackend::roofline_seconds(const graph::Program& micro_batch) const {
  if (!rates_) return 0;
  const auto& runner = *model_.runner;
  double seconds = static_cast<double>(micro_batches()) * rates_->roofline_seconds(micro_batch.graph());
  for (const auto* program : {runner.refresh_program(ComputeWeights::plain),
                              runner.unfold_program(*model_.program, ComputeWeights::plain)})
    if (program) seconds += rates_->roofline_seconds(program->graph());
  for (const auto& work : optimizer_->work()) seconds += rates_->roofline_seconds({work.flops, work.bytes});
  return seconds;
}

void ModelBackend::submit(const data::BatchLoader& loader, const StepPlan& plan) {
  const ops::cuda::ProfilerRange range("step");
  auto& runner = *model_.runner;
  const auto kind =
      static_cast<std::size_t>(plan.fake_quantise ? ComputeWeights::quantised : ComputeWeights::plain);
  runner.begin_step(plan.window);
  optimizer_->prepare(step_values(recipe_, plan));
  begin_[kind].run();
  auto& program = model_.early && !plan.looped ? *model_.early : *model_.program;
  queued_.push_back(roofline_seconds_[plan.looped]);
  const auto each = micro_batches() / ranks();
  for (std::int64_t rank = 0; rank < ranks(); ++rank) {
    runner.forward_backward(program, each, [&](std::int64_t i, const exec::MicroBatch& batch) {
      loader.rows((rank * each + i) * model_.rows, batch.tokens, batch.targets);
      target_weights(recipe_, batch.weights);
    });
    if (clips_by_rank(recipe_)) add_rank_[kind].run();
  }
  finish_[kind].run();
  if (plan.average == AverageAction::add && average_of(recipe_) == optim::Average::swa)
    optimizer_->enqueue_swa_add();
  if (plan.sensitivity) optimizer_->enqueue_squares();
  optimizer_->enqueue_report();
  runner.end_step();
}

StepOutcome ModelBackend::collect() {
  const auto step = model_.runner->take_step();
  const double roofline = queued_.front();
  queued_.pop_front();
  return {step.loss, optimizer_->report(), step.seconds, roofline};
}

double ModelBackend::measure_update(int repeats) {
  const int untimed = engine_.cuda() ? 2 : 0;  // these may load and record
  StepPlan plan;
  plan.average = AverageAction::add;
  std::vector<double> times;
  for (int i = 0; i < repeats + untimed; ++i) {
    optimizer_->prepare(step_values(recipe_, plan));
    const base::Stopwatch watch;
    model_.runner->begin_step();
    begin_[0].run();
    for (std::int64_t rank = 0; clips_by_rank(recipe_) && rank < ranks(); ++rank) add_rank_[0].run();
    finish_[0].run();
    model_.runner->end_step();
    const double seconds = model_.runner->take_step().seconds;
    if (i >= untimed) times.push_back(seconds > 0 ? seconds : watch.seconds());
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
}

}  // namespace fairway::pipeline
