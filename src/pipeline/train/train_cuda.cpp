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

constexpr std::int64_t most_tokens = 98'304;         // of a micro-step: every product runs at full rate
constexpr std::size_t reserve_bytes = 512ull << 20;  // what libraries and recordings take beside our plan

model::BuildOptions train_options(const Recipe& r, Engine& engine, int rows) {
  auto build = engine.build_options(r.model);
  build.rows = rows;
  build.z_loss = static_cast<float>(r.train.z_loss);
  return build;
}

model::RefreshOptions refresh_of(const Recipe& r, Engine& engine, bool quantised) {
  auto options = engine.refresh_options(r.model);
  if (quantised) options.quantize = qat_levels(r);
  return options;
}

/// All memory of a training run with micro-batches of `rows` windows, and of the scorer beside it: weights
/// are scored in between and in the end.
std::size_t needed_bytes(const Recipe& r, Engine& engine, int rows) {
  graph::ParameterStore nothing(model::make_layout(r.model), {}, false);
  graph::Plan plan(nothing, engine.runtime(products(r)));
  plan.add(model::build(r.model, nothing.layout(), train_options(r, engine, rows)));
  const auto values = nothing.bytes();
  // Values, gradients, the working copy, Muon's momentum, its workspaces in bf16, the average.
  const auto parameters = values * 2 + values / 2 + values + values * 2 + values;
  return plan.planned_bytes() - values + parameters + ProgramScorer::planned_bytes(r.model, engine) +
         reserve_bytes;
}

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
std::optional<MachineRates> measured_rates(const Recipe& r, Engine& engine) {
  if (tensor::cuda_device(engine.device()).free_bytes < 2ull << 30) return {};
  return measure_machine(engine.activations(r.model), engine);
}

}  // namespace

int device_micro_batch_rows(const Recipe& r, Engine& engine) {
  const auto rows = static_cast<int>(r.train.batch_tokens / r.model.window);
  const auto room = tensor::cuda_device(engine.device()).free_bytes;
  const auto largest = [&](int most) {  // that divides the step and fits; 0: not even one window
    while (most >= 1 && (rows % most != 0 || needed_bytes(r, engine, most) > room)) --most;
    return most;
  };
  const bool chosen = r.train.micro_batch > 0;
  const int wanted = chosen ? pipeline::micro_batch_rows(r)  // checks that it divides the step
                            : std::clamp(static_cast<int>(most_tokens / r.model.window), 1, rows);
  const int best = largest(wanted);
  if (best == 0)
    base::fail_input(
        "{}: {} free, {} needed for micro-batches of one window; use --device cpu or free memory",
        engine.device().str(), base::human_bytes(room), base::human_bytes(needed_bytes(r, engine, 1)));
  if (chosen && best < wanted)
    base::fail_input("train.micro_batch = {}: needs {} on {}, {} are free; at most {} windows fit", wanted,
                     base::human_bytes(needed_bytes(r, engine, wanted)), engine.device().str(),
                     base::human_bytes(room), best);
  return best;
}

CudaTrainBackend::CudaTrainBackend(const Recipe& r, Engine& e)
    : recipe_(r),
      engine_(e),
      cuda_(*e.cuda()),
      machine_(measured_rates(r, e)),
      rows_(device_micro_batch_rows(r, e)),
      store_(model::make_layout(r.model), e.device(), true),
      plan_(store_, e.runtime(products(r))) {
  graph::ParameterStore host(store_.layout(), {}, false);
  initial_weights(r, host, e.pool());
  write_weights(store_, read_weights(host));
  store_.add_working_copy(e.activations(r.model));

  optim::DeviceAverages averages;
  if (r.average.kind == Average::ema) averages.ema_decay = r.average.decay;
  if (r.average.dtype == tensor::DType::bf16) averages.ema_storage = optim::Storage::bf16;
  averages.swa = r.average.kind == Average::swa;
  averages.swa_bf16_ranges = bf16_ranges(r, store_.layout());
  averages.squares = guided_bits(r);
  optimizer_.emplace(optimizer_config(r), parameter_map(store_.layout()), store_.flat_values(),
                     store_.flat_gradients(), averages, cuda_);
  add_programs();

  const auto tokens = static_cast<std::size_t>(rows_) * static_cast<std::size_t>(r.model.window);
  for (auto& feed : feeds_) {
    feed.tokens = ops::cuda::PinnedBuffer(tokens * sizeof(std::int32_t));
    feed.targets = ops::cuda::PinnedBuffer(tokens * sizeof(std::int32_t));
  }
  weights_ = ops::cuda::PinnedBuffer(tokens * sizeof(float));
  target_weights(r, weights_.span<float>());
  for (auto& losses : losses_)
    losses = ops::cuda::PinnedBuffer(static_cast<std::size_t>(micro_steps()) * sizeof(float));
}

CudaTrainBackend::~CudaTrainBackend() {
  // Queued work still uses our memory; a failure of it was reported, or concerns nobody any more.
  try {
    cuda_.synchronize();
  } catch (const base::Error&) {
  }
}

/// Of a step without fake quantisation.
void CudaTrainBackend::note_least_time(const graph::Graph& refresh, const graph::Graph& unfold) {
  if (!machine_) return;
  roofline_seconds_ = static_cast<double>(micro_steps()) * machine_->floor(program_->graph()) +
                      machine_->floor(refresh) + machine_->floor(unfold);
  for (const auto& work : optimizer_->work()) roofline_seconds_ += machine_->floor({work.flops, work.bytes});
}

void CudaTrainBackend::add_programs() {
  program_ = &plan_.add(model::build(recipe_.model, store_.layout(), train_options(recipe_, engine_, rows_)));
  const int kinds = recipe_.qat.acts() ? 2 : 1;
  for (int kind = 0; kind < kinds; ++kind) {
    const auto options = refresh_of(recipe_, engine_, kind == 1);
    auto& refresh = plan_.add(model::build_refresh(recipe_.model, store_.layout(), options));
    auto& unfold = plan_.add(model::build_unfold(recipe_.model, store_.layout(), options));
    if (kind == 0) note_least_time(refresh.graph(), unfold.graph());
    begin_[static_cast<std::size_t>(kind)].queue = [&refresh, this] {
      optimizer_->enqueue_zero_gradients();
      refresh.launch();
    };
    finish_[static_cast<std::size_t>(kind)].queue = [&unfold, this] {
      unfold.launch();
      optimizer_->enqueue();
    };
  }
  plan_.allocate();
}

void CudaTrainBackend::replay(Replayed& work) {
  base::check(static_cast<bool>(work.queue), "fake quantisation was not planned");
  if (!work.warm) {
    work.queue();
    work.warm = true;
    return;
  }
  if (!work.recording) work.recording = std::make_unique<ops::cuda::Recording>(cuda_, work.queue);
  work.recording->replay();
}

void CudaTrainBackend::micro_step(const data::BatchLoader& loader, std::int64_t row, float* loss) {
  auto& feed = feeds_[static_cast<std::size_t>(fed_++ % feeds)];
  feed.copied.wait();
  loader.rows(row, feed.tokens.span<std::int32_t>(), feed.targets.span<std::int32_t>());
  const auto send = [&](std::string_view name, const ops::cuda::PinnedBuffer& from) {
    ops::cuda::upload(cuda_, program_->view(name).data, from.data(), from.bytes());
  };
  send("tokens", feed.tokens);
  send("targets", feed.targets);
  send("weights", weights_);
  feed.copied.record(cuda_);
  program_->run();
  ops::cuda::download(cuda_, loss, program_->view("loss").data, sizeof(float));
}

void CudaTrainBackend::submit(const data::BatchLoader& loader, const StepPlan& plan) {
  base::check(submitted_ - collected_ < steps_in_flight, "a third step was submitted");
  const ops::cuda::ProfilerRange range("step");
  const auto slot = static_cast<std::size_t>(submitted_ % steps_in_flight);
  const std::size_t kind = plan.fake_quantise ? 1 : 0;
  if (submitted_ == collected_) end_of(submitted_ - 1).record(cuda_);  // the queue was empty: it begins now
  optimizer_->prepare(plan.progress, ema_step(plan.average));
  replay(begin_[kind]);
  for (std::int64_t m = 0; m < micro_steps(); ++m)
    micro_step(loader, m * rows_, losses_[slot].span<float>().data() + m);
  replay(finish_[kind]);
  if (plan.average == AverageAction::add && recipe_.average.kind == Average::swa)
    optimizer_->enqueue_swa_add();
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
  for (const float loss : losses_[slot].span<float>()) outcome.loss += static_cast<double>(loss);
  outcome.gradient = optimizer_->report(static_cast<int>(slot));
  return outcome;
}

std::vector<graph::MemoryLine> CudaTrainBackend::memory_table() const {
  auto table = plan_.memory_table();
  table.push_back({"optimiser and averages", optimizer_->device_bytes()});
  return table;
}

std::int64_t CudaTrainBackend::average_count() const {
  if (recipe_.average.kind == Average::ema) return optimizer_->ema_count();
  return recipe_.average.kind == Average::swa ? optimizer_->swa_count() : 0;
}

bool CudaTrainBackend::read_average(std::span<float> flat) {
  cuda_.synchronize();
  if (average_count() == 0) return false;
  if (recipe_.average.kind == Average::ema)
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
    replay(begin_[0]);
    replay(finish_[0]);
    after.record(cuda_);
    if (i >= 2) times.push_back(after.seconds_since(before));
  }
  std::ranges::sort(times);
  return times[times.size() / 2];
}

}  // namespace fairway::pipeline
