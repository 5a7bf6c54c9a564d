#include "fairway/exec/staging.h"

#include "fairway/base/error.h"
#include "fairway/exec/segments.h"

#include <numeric>

namespace fairway::exec {

namespace {

/// As many as the host may be ahead: one being read, one waiting, one being filled.
constexpr int device_inputs = 3;

}  // namespace

HostStaging::HostStaging(const model::ModelConfig& config, const Engine& engine, std::size_t tokens,
                         std::size_t micro_batches)
    : config_(config), engine_(engine) {
  for (int i = 0; engine.cuda() && i < device_inputs; ++i)
    inputs_.push_back(
        {{engine, tokens}, {engine, tokens}, {engine, config.documents ? tokens : 0}, {engine, tokens}, {}});
  for (int i = 0; i < steps_in_flight; ++i) losses_.push_back({{engine, micro_batches}});
  for (int i = 0; engine.cuda() && i <= steps_in_flight; ++i) starts_.emplace_back(true);
}

void HostStaging::send(graph::Program& program, const Fill& fill) {
  if (inputs_.empty()) {
    const auto tokens = program.view("tokens").span<std::int32_t>();
    fill({tokens, program.view("targets").span<std::int32_t>(), program.view("weights").span<float>()});
    if (config_.documents)
      fill_segments(config_, program, tokens, program.view("segments").span<std::int32_t>(), longest_);
    return;
  }
  auto& in = inputs_[sent_++ % inputs_.size()];
  in.copied.wait();
  fill({in.tokens.span(), in.targets.span(), in.weights.span()});
  program.write<std::int32_t>("tokens", in.tokens.span());
  program.write<std::int32_t>("targets", in.targets.span());
  program.write<float>("weights", in.weights.span());
  if (config_.documents) {
    fill_segments(config_, program, in.tokens.span(), in.segments.span(), longest_);
    program.write<std::int32_t>("segments", in.segments.span());
  }
  in.copied.record(*engine_.cuda());
}

void HostStaging::begin_step(int longest) {
  base::check(begun_ - taken_ < steps_in_flight, "{} steps are on their way", begun_ - taken_);
  if (!starts_.empty() && begun_ == taken_) start_of(begun_).record(*engine_.cuda());
  losses(begun_++).count = 0;
  longest_ = longest;
}

void HostStaging::receive(graph::Program& program) {
  auto& step = losses(begun_ - 1);
  base::check(step.count < step.values.span().size(), "a step of more than {} micro-batches", step.count);
  const auto to = step.values.span().subspan(step.count++, 1);
  if (auto* gpu = engine_.cuda())
    ops::cuda::download(*gpu, to.data(), program.view("loss").data, sizeof(float));
  else
    program.read<float>("loss", to);
}

void HostStaging::end_step() {
  if (!starts_.empty()) start_of(begun_).record(*engine_.cuda());
}

StepResult HostStaging::take_step() {
  base::check(taken_ < begun_, "no step to take");
  StepResult result;
  if (!starts_.empty()) result.seconds = start_of(taken_ + 1).seconds_since(start_of(taken_));
  auto& step = losses(taken_++);
  const auto values = step.values.span().first(step.count);
  result.loss = std::accumulate(values.begin(), values.end(), 0.0);
  return result;
}

}  // namespace fairway::exec
