#include "fairway/exec/model_runner.h"

#include "fairway/base/error.h"
#include "fairway/exec/segments.h"
#include "fairway/tensor/cuda.h"

#include <algorithm>

namespace fairway::exec {

ModelRunner::ModelRunner(const model::ModelConfig& config, const Engine& engine, RunnerOptions options)
    : config_(config),
      engine_(engine),
      options_(std::move(options)),
      form_(options_.form.value_or(Form::on(engine, config))) {
  own_ =
      std::make_unique<graph::ParameterStore>(model::make_layout(config), engine.device(), options_.trains);
  start();
}

ModelRunner::ModelRunner(const model::ModelConfig& config, graph::ParameterStore& weights,
                         const Engine& engine, RunnerOptions options)
    : config_(config),
      engine_(engine),
      options_(std::move(options)),
      form_(options_.form.value_or(Form::on(engine, config))),
      source_(&weights) {
  base::check(!weights.device().is_cuda(), "weights are handed over on the host");
  if (engine.device().is_cuda() || !form_.reads_weights() || options_.trains)
    own_ = std::make_unique<graph::ParameterStore>(weights.layout(), engine.device(), options_.trains);
  start();
}

ModelRunner::~ModelRunner() {
  // Queued work still uses our memory; a failure of it was reported, or nobody asks for its result any more.
  try {
    engine_.synchronize();
  } catch (const base::Error&) {
  }
}

void ModelRunner::start() {
  store_ = own_ ? own_.get() : source_;
  if (own_ && (engine_.device().is_cuda() || !form_.reads_weights() || options_.quantise))
    own_->add_compute_weights(form_.dtype);
  plan_ = std::make_unique<graph::Plan>(*store_, engine_.runtime(options_.products));
}

graph::Program& ModelRunner::plan(graph::Graph graph) {
  ++programs_;
  return plan_->add(std::move(graph));
}

graph::Program& ModelRunner::add(const ProgramSpec& spec) {
  auto& program = plan(form_.program(config_, store_->layout(), spec));
  folds_ = program.graph().folds;  // Plan sees to it that all programs have the same
  if (spec.mode != model::Mode::train) return program;
  const auto window = spec.length > 0 ? spec.length : config_.window;
  staged_tokens_ =
      std::max(staged_tokens_, static_cast<std::size_t>(spec.rows) * static_cast<std::size_t>(window));
  if (std::ranges::any_of(folds_, &graph::Fold::trains)) add_unfold(program);
  return program;
}

void ModelRunner::add_unfold(const graph::Program& program) {
  const auto unfold = [&](const graph::QuantLevels& levels) {
    return &plan(graph::build_unfold(store_->layout(), form_.dtype, program.graph().folds, levels));
  };
  auto& pair = unfold_[&program];
  pair[0] = pair[1] = unfold({});
  if (options_.quantise) pair[1] = unfold(options_.quantise);
}

void ModelRunner::allocate() {
  if (allocated_ > 0 && allocated_ == programs_) return;
  if (store_->has_compute_weights() && !refresh_[0]) {
    const auto refresh = [&](const graph::QuantLevels& levels) {
      return &plan(graph::build_refresh(store_->layout(), form_.dtype, folds_, levels));
    };
    refresh_[0] = refresh_[1] = refresh({});
    if (options_.quantise) refresh_[1] = refresh(options_.quantise);
  }
  plan_->allocate();
  if (staged_tokens_ > 0 && !staging_)
    staging_ = std::make_unique<HostStaging>(config_, engine_, staged_tokens_,
                                             static_cast<std::size_t>(options_.micro_batches));
  if (allocated_ == 0) reload();
  allocated_ = programs_;
}

void ModelRunner::reload() {
  weights_changed();
  if (!own_ || !source_) return;
  engine_.synchronize();  // nobody reads the old weights any more
  const auto from = source_->flat_values(), to = own_->flat_values();
  tensor::copy_bytes(own_->device(), to.data, {}, from.data, from.bytes());
}

void ModelRunner::save(Snapshot& to) const {
  const auto values = store_->flat_values();
  engine_.synchronize();
  if (to.bytes() == 0) to = Snapshot(store_->device(), values.bytes());
  tensor::copy_bytes(store_->device(), to.data(), store_->device(), values.data, values.bytes());
}

void ModelRunner::load(const Snapshot& from) {
  const auto values = store_->flat_values();
  base::check(from.bytes() == values.bytes(), "a snapshot of {} bytes for weights of {}", from.bytes(),
              values.bytes());
  engine_.synchronize();
  tensor::copy_bytes(store_->device(), values.data, store_->device(), from.data(), values.bytes());
  weights_changed();
}

graph::Program* ModelRunner::refresh_program(ComputeWeights wanted) const {
  return refresh_[static_cast<std::size_t>(wanted)];
}

graph::Program* ModelRunner::unfold_program(const graph::Program& program, ComputeWeights read) const {
  const auto found = unfold_.find(&program);
  return found == unfold_.end() ? nullptr : found->second[static_cast<std::size_t>(read)];
}

void ModelRunner::prepare(ComputeWeights wanted) {
  auto* refresh = refresh_program(wanted);
  if (!refresh || (current_ && refresh_program(*current_) == refresh)) return;
  refresh->run();
  current_ = wanted;
}

void ModelRunner::write_tokens(graph::Program& program, std::span<const std::int32_t> tokens) const {
  program.write("tokens", tokens);
  if (!program.has("segments")) return;
  std::vector<std::int32_t> segments(tokens.size());
  fill_segments(config_, program, tokens, segments);
  program.write<std::int32_t>("segments", segments);
}

void ModelRunner::zero_gradients() {
  const auto all = store_->flat_gradients();
  if (auto* gpu = engine_.cuda())
    ops::cuda::zero_on_device(*gpu, all.data, all.bytes());
  else
    store_->zero_gradients();
}

void ModelRunner::forward_backward(graph::Program& program, std::int64_t micro_batches,
                                   const std::function<void(std::int64_t, const MicroBatch&)>& fill) {
  for (std::int64_t i = 0; i < micro_batches; ++i) {
    staging_->send(program, [&](const MicroBatch& batch) { fill(i, batch); });
    program.run();
    staging_->receive(program);
  }
}

void ModelRunner::end_step() {
  weights_changed();
  staging_->end_step();
}

void ModelRunner::unfold(const graph::Program& program, ComputeWeights read) {
  if (auto* unfold = unfold_program(program, read)) unfold->run();
}

std::vector<float> read_weights(const graph::ParameterStore& store) {
  std::vector<float> flat(static_cast<std::size_t>(store.layout().padded_elements()));
  const auto view = store.flat_values();
  tensor::copy_bytes({}, flat.data(), store.device(), view.data, view.bytes());
  return flat;
}

void write_weights(graph::ParameterStore& store, std::span<const float> flat) {
  const auto view = store.flat_values();
  base::check(flat.size_bytes() == view.bytes(), "{} bytes for {} of weights", flat.size_bytes(),
              view.bytes());
  tensor::copy_bytes(store.device(), view.data, {}, flat.data(), view.bytes());
}

}  // namespace fairway::exec
