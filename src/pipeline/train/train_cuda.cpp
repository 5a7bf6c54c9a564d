#include "train/train_cuda.h"

#include "fairway/base/error.h"
#include "fairway/base/text.h"
#include "fairway/model/family.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/pipeline/stages/scoring.h"
#include "fairway/pipeline/train/train_setup.h"
#include "fairway/tensor/cuda.h"
#include "train/train_sensitivity.h"

#include <algorithm>

namespace fairway::pipeline {

namespace {

optim::EmaStep ema_step(AverageAction action) {
  switch (action) {
    case AverageAction::set:
      return optim::EmaStep::start;
    case AverageAction::add:
      return optim::EmaStep::update;
    default:
      return optim::EmaStep::none;
  }
}

/// Measured before a run takes its memory; nothing where there is little, which the run itself will tell.
std::optional<exec::DeviceRates> measured_rates(const Recipe& r, exec::Engine& engine) {
  if (tensor::cuda_device(engine.device()).free_bytes < 2ull << 30) return {};
  return exec::measure_rates(exec::Form::on(engine, r.model).dtype, engine);
}

}  // namespace

CudaTrainBackend::CudaTrainBackend(const Recipe& r, exec::Engine& e)
    : recipe_(r),
      engine_(e),
      cuda_(*e.cuda()),
      rates_(measured_rates(r, e)),
      model_(make_training_model(r, e)),
      runner_(*model_.runner),
      store_(runner_.weights()) {
  initial_weights(r, store_, e.pool());
  optim::DeviceAverages averages;
  if (r.average.kind == "ema") averages.ema_decay = r.average.decay;
  if (r.average.dtype == "bf16") averages.ema_storage = optim::Storage::bf16;
  averages.swa = r.average.kind == "swa";
  averages.swa_bf16_ranges = bf16_ranges(r, store_.layout());
  averages.squares = guided_bits(r);
  optimizer_.emplace(optimizer_config(r), parameter_map(store_.layout()), store_.flat_values(),
                     store_.flat_gradients(), averages, cuda_);
  add_programs();
}

CudaTrainBackend::~CudaTrainBackend() {
  // Queued work still uses our memory; a failure of it was reported, or nobody asks for its result any more.
  try {
    cuda_.synchronize();
  } catch (const base::Error&) {
  }
}

/// Of a step without fake quantisation.
void CudaTrainBackend::note_least_time() {
  if (!rates_) return;
  const auto plain = exec::ComputeWeights::plain;
  roofline_seconds_ = static_cast<double>(micro_steps()) * rates_->roofline_seconds(model_.program->graph()) +
                      rates_->roofline_seconds(runner_.refresh_program(plain)->graph()) +
                      rates_->roofline_seconds(runner_.unfold_program(*model_.program, plain)->graph());
  for (const auto& work : optimizer_->work())
    roofline_seconds_ += rates_->roofline_seconds({work.flops, work.bytes});
}

void CudaTrainBackend::add_programs() {
  runner_.allocate();
  note_least_time();
  for (const auto kind : {exec::ComputeWeights::plain, exec::ComputeWeights::quantised}) {
    begin_[static_cast<std::size_t>(kind)] = exec::Recorded(engine_, [kind, this] {
      optimizer_->enqueue_zero_gradients();
      runner_.launch_refresh(kind);
    });
    finish_[static_cast<std::size_t>(kind)] = exec::Recorded(engine_, [kind, this] {
      runner_.launch_unfold(*model_.program, kind);
      optimizer_->enqueue();
    });
  }
}

void CudaTrainBackend::submit(const data::BatchLoader& loader, const StepPlan& plan) {
  base::check(submitted_ - collected_ < steps_in_flight, "a third step was submitted");
  const ops::cuda::ProfilerRange range("step");
  const auto slot = static_cast<std::size_t>(submitted_ % steps_in_flight);
  const std::size_t kind = plan.fake_quantise ? 1 : 0;
  if (submitted_ == collected_) end_of(submitted_ - 1).record(cuda_);  // the queue was empty: it begins now
  optimizer_->prepare(plan.progress, ema_step(plan.average));
  begin_[kind].run();
  runner_.forward_backward(*model_.program, micro_steps(),
                           [&](std::int64_t i, const exec::MicroBatch& batch) {
                             loader.rows(i * model_.rows, batch.tokens, batch.targets);
                             target_weights(recipe_, batch.weights);
                           });
  finish_[kind].run();
  runner_.weights_changed();
  if (plan.average == AverageAction::add && recipe_.average.kind == "swa") optimizer_->enqueue_swa_add();
  if (plan.sensitivity && guided_bits(recipe_)) optimizer_->enqueue_squares();
  optimizer_->enqueue_report(static_cast<int>(slot));
  end_of(submitted_).record(cuda_);
  ++submitted_;
}

StepOutcome CudaTrainBackend::collect() {
  base::check(collected_ < submitted_, "no step to collect");
  const auto slot = static_cast<std::size_t>(collected_ % steps_in_flight);
  StepOutcome outcome;
  outcome.seconds = end_of(collected_).seconds_since(end_of(collected_ - 1));
  ++collected_;
  outcome.loss = runner_.take_loss();
  outcome.gradient = optimizer_->report(static_cast<int>(slot));
  return outcome;
}

std::vector<graph::MemoryLine> CudaTrainBackend::memory_table() const {
  auto table = runner_.memory_table();
  table.push_back({"optimiser and averages", optimizer_->device_bytes()});
  return table;
}

std::int64_t CudaTrainBackend::average_count() const {
  if (recipe_.average.kind == "ema") return optimizer_->ema_count();
  return recipe_.average.kind == "swa" ? optimizer_->swa_count() : 0;
}

bool CudaTrainBackend::read_average(std::span<float> flat) {
  cuda_.synchronize();
  if (average_count() == 0) return false;
  if (recipe_.average.kind == "ema")
    optimizer_->ema(flat);
  else
    optimizer_->swa_mean(flat);
  round_tables(recipe_, store_.layout(), flat);
  return true;
}

quant::Sensitivity CudaTrainBackend::sensitivity() {
  if (!guided_bits(recipe_)) return {};
  return GradientSquares(store_.layout(), optimizer_->square_sums()).mean();
}

std::vector<artifact::CheckpointBuffer> CudaTrainBackend::save_state() {
  cuda_.synchronize();
  saved_ = optimizer_->save();
  std::vector<artifact::CheckpointBuffer> result;
  for (const auto& s : saved_) result.push_back({s.name, s.bytes});
  return result;
}

void CudaTrainBackend::restore_state(const SavedState& saved) {
  cuda_.synchronize();
  for (const auto& s : optimizer_->state()) {
    const auto bytes = saved(s.name, s.bytes);
    if (!bytes.empty()) optimizer_->restore(s.name, bytes);
  }
  optimizer_->enqueue_clear_flag();
}

double CudaTrainBackend::measure_update(int repeats) {
  std::vector<double> times;
  for (int i = 0; i < repeats + 2; ++i) {  // the first two may load and record
    ops::cuda::Event before(true), after(true);
    optimizer_->prepare({});
    before.record(cuda_);
    begin_[0].run();
    finish_[0].run();
    runner_.weights_changed();
    after.record(cuda_);
    if (i >= 2) times.push_back(after.seconds_since(before));
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
}

}  // namespace fairway::pipeline
