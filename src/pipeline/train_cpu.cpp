#include "train_cpu.h"

#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/model/family.h"
#include "fairway/pipeline/packing.h"
#include "fairway/pipeline/train_setup.h"

#include <algorithm>
#include <cmath>
#include <limits>

namespace fairway::pipeline {

CpuTrainBackend::CpuTrainBackend(const Recipe& r, Engine& e)
    : recipe_(r),
      engine_(e),
      rows_(pipeline::micro_batch_rows(r)),
      store_(model::make_layout(r.model), e.device(), true),
      plan_(store_, e.runtime(products(r))) {
  initial_weights(r, store_, e.pool());
  if (r.qat.any() && !r.qat.inert) {
    // Products read the working copy, which either refresh program rewrites before a step.
    store_.add_working_copy(tensor::DType::f32);
    model::RefreshOptions refresh;
    refresh_[0] = &plan_.add(model::build_refresh(r.model, store_.layout(), refresh));
    refresh.quantize = qat_levels(r);
    refresh_[1] = &plan_.add(model::build_refresh(r.model, store_.layout(), refresh));
  }
  model::BuildOptions build;
  build.rows = rows_;
  build.z_loss = static_cast<float>(r.train.z_loss);
  program_ = &plan_.add(model::build(r.model, store_.layout(), build));
  plan_.allocate();
  optimizer_ = optim::make_optimizer(optimizer_config(r, store_.layout()), store_.flat_values(),
                                     store_.flat_gradients(), &e.pool(), nullptr);
}

/// Forward and backward of a whole step; the mean loss.
double CpuTrainBackend::micro_steps(const data::BatchLoader& loader) {
  store_.zero_gradients();
  double loss = 0;
  const auto tokens = program_->view("tokens"), targets = program_->view("targets"),
             weights = program_->view("weights");
  for (std::int64_t row = 0; row < loader.rows_per_step(); row += rows_) {
    loader.rows(row, tokens.span<std::int32_t>(), targets.span<std::int32_t>());
    target_weights(recipe_, weights.span<float>());
    program_->run();
    loss += static_cast<double>(program_->view("loss").as<float>()[0]);
  }
  return loss;
}

void CpuTrainBackend::submit(const data::BatchLoader& loader, const StepPlan& plan) {
  base::check(!done_, "a step was submitted before the last one was collected");
  done_.emplace();
  if (bad_) {
    done_->loss = std::numeric_limits<double>::quiet_NaN();
    return;
  }
  if (auto* refresh = refresh_[plan.fake_quantise ? 1 : 0]) refresh->run();
  done_->loss = micro_steps(loader);
  if (std::isfinite(done_->loss)) done_->gradient = update(plan);
  bad_ = !done_->finite();
}

optim::GradientNorm CpuTrainBackend::update(const StepPlan& plan) {
  const auto norm = optimizer_->step(step_values(recipe_, plan));
  if (plan.average == AverageAction::add && average_of(recipe_) == optim::Average::swa)
    optimizer_->enqueue_swa_add();
  if (plan.sensitivity) optimizer_->enqueue_squares();
  return norm;
}

StepOutcome CpuTrainBackend::collect() {
  base::check(done_.has_value(), "no step to collect");
  const auto outcome = *done_;
  done_.reset();
  return outcome;
}

std::int64_t CpuTrainBackend::average_count() const {
  const auto average = average_of(recipe_);
  return average ? optimizer_->average_count(*average) : 0;
}

bool CpuTrainBackend::read_average(std::span<float> flat) {
  if (average_count() == 0) return false;
  optimizer_->read_average(*average_of(recipe_), flat);
  round_tables(recipe_, store_.layout(), flat);
  return true;
}

quant::Sensitivity CpuTrainBackend::sensitivity() {
  return guided_bits(recipe_) ? optimizer_->mean_squares() : quant::Sensitivity{};
}

std::vector<graph::MemoryLine> CpuTrainBackend::memory_table() const {
  auto table = plan_.memory_table();
  table.push_back({"optimiser and averages", optimizer_->bytes()});
  return table;
}

std::vector<artifact::CheckpointBuffer> CpuTrainBackend::save_state() {
  std::vector<artifact::CheckpointBuffer> result;
  for (const auto& s : optimizer_->save()) result.push_back({s.name, s.bytes});
  return result;
}

void CpuTrainBackend::restore_state(const SavedState& saved) {
  optimizer_->restore(saved);
  optimizer_->enqueue_clear_flag();
  bad_ = false;
}

double CpuTrainBackend::measure_update(int repeats) {
  StepPlan plan;
  plan.average = AverageAction::add;
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    base::Stopwatch watch;
    update(plan);
    times.push_back(watch.seconds());
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
}

}  // namespace fairway::pipeline
