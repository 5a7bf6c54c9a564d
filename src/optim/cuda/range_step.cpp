#include "cuda/range_step.h"

#include <algorithm>

#include "fairway/base/error.h"
#include "rules/table.h"

namespace fairway::optim::cuda {

std::vector<Piece> pieces_of(std::span<const std::int64_t> sizes) {
  std::vector<Piece> pieces;
  for (std::size_t entry = 0; entry < sizes.size(); ++entry)
    for (std::int64_t begin = 0; begin < sizes[entry]; begin += piece_elements)
      pieces.push_back(
          {static_cast<std::int32_t>(entry),
           static_cast<std::int32_t>(std::min<std::int64_t>(piece_elements, sizes[entry] - begin)), begin});
  return pieces;
}

namespace {

bool aligned(const float* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

}  // namespace

RangeStep::RangeStep(ops::cuda::State& state, tensor::View values, tensor::View gradients,
                     const OptimizerConfig& config)
    : state_(&state),
      values_(values.as<float>()),
      gradients_(gradients.as<const float>()),
      max_norm_(config.grad_clip),
      scheduled_(device_array<StepValues>(state, 1)),
      step_state_(device_array<StepState>(state, 1)) {
  base::check(aligned(values_) && aligned(gradients_), "optimizer: flat arrays must start at 16 bytes");
  std::vector<std::int64_t> begins, sizes;
  for (const auto& range : trained_ranges(config.groups, values.elements(), true)) {
    begins.push_back(range.begin);
    sizes.push_back(range.size());
    norm_elements_ += range.size();
  }
  const auto pieces = pieces_of(sizes);
  norm_count_ = static_cast<std::int64_t>(pieces.size());
  norm_pieces_ = device_table(state, pieces);
  norm_begins_ = device_table(state, begins);
  partial_ = device_array<double>(state, norm_count_);
  place_ranges(config.groups);
}

RangeStep::~RangeStep() { cudaStreamSynchronize(stream_of(*state_)); }

void RangeStep::place_ranges(const std::vector<ParamGroup>& groups) {
  std::vector<UpdateRange> entries;
  std::vector<std::int64_t> sizes;
  std::int64_t places[2] = {};  // of the moments so far
  for (const auto& group : groups) {
    const auto rounding = rules::rounding_of(group.rule, group.storage);
    for (const auto& p : group.parameters)
      rules::with_rule(group.rule.kind, rounding, [&]<class Rule>(Rule) {
        const UpdateRange entry{.begin = p.range.begin,
                                .moments = places[0],
                                .lr_factor = p.lr_factor,
                                .rate = group.rate,
                                .rounding = rounding,
                                .rule = group.rule};
        ranges_.push_back(
            {fmt::format("{}.{}.", base::name_of(group.rule.kind), p.name), p.range.size(), entry});
        entries.push_back(entry);
        sizes.push_back(p.range.size());
        places[0] += padded(p.range.size());
        if (Rule::moments > 1) places[1] = places[0];
        update_bytes_ += p.range.size() * 4 * (3 + 2 * Rule::moments);
      });
  }
  const auto pieces = pieces_of(sizes);
  update_count_ = static_cast<std::int64_t>(pieces.size());
  const auto count = static_cast<std::int64_t>(entries.size());
  update_pieces_ = device_table(*state_, pieces);
  update_ranges_ = device_table(*state_, entries);
  scalars_ = device_array<rules::Scalars>(*state_, count);
  counters_ = device_array<std::int64_t>(*state_, count);
  first_ = device_array<float>(*state_, places[0]);
  second_ = device_array<float>(*state_, places[1]);
}

void RangeStep::send(const StepValues& values) {
  auto& slot = sends_[next_send_];
  next_send_ = (next_send_ + 1) % sends_.size();
  slot.sent.wait();  // the copy that last read this slot
  slot.value.span<StepValues>()[0] = values;
  ops::cuda::upload(*state_, scheduled_.data(), slot.value.data(), sizeof values);
  slot.sent.record(*state_);
}

void RangeStep::enqueue_norm(std::int64_t* ema_count, const RankSum* ranks) {
  const cudaStream_t stream = stream_of(*state_);
  if (!ranks)
    norm_pieces(stream, {data_of<const Piece>(norm_pieces_), norm_count_},
                data_of<const std::int64_t>(norm_begins_), gradients_, data_of<double>(partial_));
  finish_norm(stream, {.partial = data_of<const double>(partial_),
                       .pieces = ranks ? 0 : norm_count_,
                       .max_norm = max_norm_,
                       .rank = ranks ? ranks->state() : nullptr,
                       .ranks = ranks ? ranks->ranks() : 0,
                       .scheduled = scheduled(),
                       .state = data_of<StepState>(step_state_),
                       .ranges = data_of<const UpdateRange>(update_ranges_),
                       .range_count = static_cast<std::int64_t>(ranges_.size()),
                       .counters = data_of<std::int64_t>(counters_),
                       .scalars = data_of<rules::Scalars>(scalars_),
                       .ema_count = ema_count});
  launched("the gradient norm");
}

void RangeStep::enqueue_update() {
  update_ranges(stream_of(*state_), {.pieces = {data_of<const Piece>(update_pieces_), update_count_},
                                     .ranges = data_of<const UpdateRange>(update_ranges_),
                                     .scalars = data_of<const rules::Scalars>(scalars_),
                                     .state = step_state(),
                                     .values = values_,
                                     .gradients = gradients_,
                                     .first = data_of<float>(first_),
                                     .second = data_of<float>(second_)});
  launched("the element-wise updates");
}

void RangeStep::enqueue_flag(bool bad) {
  if (cudaMemsetAsync(&data_of<StepState>(step_state_)->bad, bad ? 1 : 0, sizeof(StepState::bad),
                      stream_of(*state_)) != cudaSuccess)
    launched("cannot set the flag of bad gradients");
}

void RangeStep::enqueue_reset() {
  for (const auto* buffer : {&counters_, &first_, &second_})
    ops::cuda::zero_on_device(*state_, buffer->data(), buffer->bytes());
}

void RangeStep::enqueue_report() {
  auto& report = reports_[static_cast<std::size_t>(report_slots_.next())];
  ops::cuda::download(*state_, report.value.data(), step_state_.data(), sizeof(StepState));
  report.arrived.record(*state_);
}

GradientNorm RangeStep::report() {
  const auto& report = reports_[static_cast<std::size_t>(report_slots_.oldest())];
  report.arrived.wait();
  const StepState state = report.value.span<StepState>()[0];
  return {state.norm, state.bad == 0};
}

std::vector<StateBuffer> RangeStep::state() const {
  std::vector<StateBuffer> pieces;
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    const Placed& p = ranges_[i];
    const auto bytes = static_cast<std::size_t>(p.elements) * sizeof(float);
    rules::with_rule(p.entry.rule.kind, p.entry.rounding, [&]<class Rule>(Rule) {
      if (Rule::counts)
        pieces.push_back(
            {p.prefix + "step", {counters_.data() + i * sizeof(std::int64_t), sizeof(std::int64_t)}});
      for (int k = 0; k < Rule::moments; ++k) {
        float* moment = data_of<float>(k == 0 ? first_ : second_) + p.entry.moments;
        pieces.push_back({p.prefix + Rule::names[k], {reinterpret_cast<std::byte*>(moment), bytes}});
      }
    });
  }
  return pieces;
}

std::size_t RangeStep::device_bytes() const {
  return bytes_of({&scheduled_, &step_state_, &norm_pieces_, &norm_begins_, &partial_, &update_pieces_,
                   &update_ranges_, &scalars_, &counters_, &first_, &second_});
}

}  // namespace fairway::optim::cuda
