#include "train/train_cpu.h"

#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/model/family.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/pipeline/train/train_setup.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <limits>

namespace fairway::pipeline {

CpuTrainBackend::CpuTrainBackend(const Recipe& r, Engine& e)
    : recipe_(r),
      engine_(e),
      rows_(pipeline::micro_batch_rows(r)),
      store_(model::make_layout(r.model), e.device(), true),
      plan_(store_, e.runtime(products(r))) {
  initial_weights(r, store_, e.pool());
  if (r.qat.acts()) {
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
  optimizer_.emplace(optimizer_config(r), parameter_map(store_.layout()), values(),
                     store_.flat_gradients().span<float>(), e.pool());
  if (r.average.kind == Average::ema) ema_.emplace(make_ema(r, values()));
  if (guided_bits(r)) squares_.emplace(store_.layout());
  if (r.average.kind == Average::swa)
    swa_.emplace(store_.layout().padded_elements(), bf16_ranges(r, store_.layout()));
  for (const auto& buffer : state()) state_bytes_ += buffer.bytes.size();
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
  if (std::isfinite(done_->loss)) done_->gradient = optimizer_->step(plan.progress).gradient;
  bad_ = !done_->finite();
  if (bad_) return;
  average(plan.average);
  if (squares_ && plan.sensitivity) squares_->add(store_.flat_gradients().span<float>(), engine_.pool());
}

StepOutcome CpuTrainBackend::collect() {
  base::check(done_.has_value(), "no step to collect");
  const auto outcome = *done_;
  done_.reset();
  return outcome;
}

void CpuTrainBackend::average(AverageAction action) {
  if (action == AverageAction::none) return;
  if (ema_ && action == AverageAction::set) ema_->start(values());
  if (ema_ && action == AverageAction::add) ema_->update(values(), engine_.pool());
  if (swa_) swa_->add(values(), engine_.pool());
}

std::int64_t CpuTrainBackend::average_count() const {
  if (ema_) return ema_->count();
  return swa_ ? swa_->count() : 0;
}

bool CpuTrainBackend::read_average(std::span<float> flat) {
  if (average_count() == 0) return false;
  if (ema_) std::ranges::copy(ema_->values(), flat.begin());
  if (swa_) swa_->mean(flat, engine_.pool());
  round_tables(recipe_, store_.layout(), flat);
  return true;
}

quant::Sensitivity CpuTrainBackend::sensitivity() {
  return squares_ ? squares_->mean() : quant::Sensitivity{};
}

std::vector<optim::StateBuffer> CpuTrainBackend::state() {
  auto all = optimizer_->state();
  const auto append = [&](std::vector<optim::StateBuffer> more) {
    all.insert(all.end(), more.begin(), more.end());
  };
  if (ema_) append(ema_->state("average."));
  if (swa_) append(swa_->state("average."));
  if (squares_) append(squares_->state());
  return all;
}

std::vector<graph::MemoryLine> CpuTrainBackend::memory_table() const {
  auto table = plan_.memory_table();
  table.push_back({"optimiser and averages", state_bytes_});
  return table;
}

std::vector<artifact::CheckpointBuffer> CpuTrainBackend::save_state() {
  std::vector<artifact::CheckpointBuffer> result;
  for (const auto& s : state()) result.push_back({s.name, s.bytes});
  return result;
}

void CpuTrainBackend::restore_state(const SavedState& saved) {
  for (const auto& s : state()) {
    const auto bytes = saved(s.name, s.bytes.size());
    if (!bytes.empty()) std::memcpy(s.bytes.data(), bytes.data(), bytes.size());
  }
  bad_ = false;
}

double CpuTrainBackend::measure_update(int repeats) {
  std::vector<double> times;
  for (int i = 0; i < repeats; ++i) {
    base::Stopwatch watch;
    optimizer_->step({});
    average(AverageAction::add);
    times.push_back(watch.seconds());
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
}

}  // namespace fairway::pipeline
