#include "cuda/range_step.h"

#include <algorithm>

#include "fairway/base/error.h"

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

std::vector<std::int64_t> sizes_of(const std::vector<FlatRange>& ranges) {
  std::vector<std::int64_t> sizes;
  for (const auto& range : ranges) sizes.push_back(range.end - range.begin);
  return sizes;
}

bool aligned(const float* p) { return reinterpret_cast<std::uintptr_t>(p) % 16 == 0; }

template <class T>
tensor::Buffer table(const ops::cuda::State& state, const std::vector<T>& entries) {
  return device_table(state, std::span<const T>(entries));
}

}  // namespace

RangeStep::RangeStep(ops::cuda::State& state, tensor::View values, tensor::View gradients,
                     const std::vector<FlatRange>& trained, const std::vector<RangeSpec>& ranges,
                     double max_norm)
    : state_(&state),
      values_(values.as<float>()),
      gradients_(gradients.as<const float>()),
      max_norm_(max_norm),
      scheduled_(device_array<Scheduled>(state, 1)),
      step_state_(device_array<StepState>(state, 1)) {
  base::check(values && gradients && values.elements() == gradients.elements(),
              "optimizer: {} values, {} gradients", values.elements(), gradients.elements());
  base::check(aligned(values_) && aligned(gradients_), "optimizer: flat arrays must start at 16 bytes");
  std::vector<TrainedRange> begins;
  for (const auto& range : trained) {
    begins.push_back({range.begin});
    norm_elements_ += range.end - range.begin;
  }
  const auto pieces = pieces_of(sizes_of(trained));
  norm_count_ = static_cast<std::int64_t>(pieces.size());
  norm_pieces_ = table(state, pieces);
  norm_ranges_ = table(state, begins);
  partial_ = device_array<double>(state, norm_count_);
  place_ranges(ranges);
}

RangeStep::~RangeStep() { cudaStreamSynchronize(stream_of(*state_)); }

void RangeStep::place_ranges(const std::vector<RangeSpec>& ranges) {
  ranges_ = ranges;
  std::vector<UpdateRange> entries;
  std::vector<FlatRange> parts;
  std::int64_t moments = 0;
  bool two_moments = false;
  for (auto& spec : ranges_) {
    spec.rule.begin = spec.range.begin;
    spec.rule.moments = moments;
    moments += padded(spec.range.end - spec.range.begin);
    update_elements_ += spec.range.end - spec.range.begin;
    two_moments = two_moments || spec.rule.rule != Rule::sgd;
    entries.push_back(spec.rule);
    parts.push_back(spec.range);
  }
  const auto pieces = pieces_of(sizes_of(parts));
  update_count_ = static_cast<std::int64_t>(pieces.size());
  const auto count = static_cast<std::int64_t>(entries.size());
  update_pieces_ = table(*state_, pieces);
  update_ranges_ = table(*state_, entries);
  scalars_ = device_array<UpdateScalars>(*state_, count);
  counters_ = device_array<std::int64_t>(*state_, count);
  first_ = device_array<float>(*state_, moments);
  second_ = device_array<float>(*state_, two_moments ? moments : 0);
}

void RangeStep::send(const Scheduled& scheduled) {
  auto& slot = sends_[static_cast<std::size_t>(next_send_)];
  next_send_ = (next_send_ + 1) % slots;
  slot.sent.wait();  // the copy that last read this slot
  slot.value.span<Scheduled>()[0] = scheduled;
  ops::cuda::upload(*state_, scheduled_.data(), slot.value.data(), sizeof scheduled);
  slot.sent.record(*state_);
}

void RangeStep::enqueue_norm(std::int64_t* ema_count) {
  const cudaStream_t stream = stream_of(*state_);
  norm_pieces(stream, {data_of<const Piece>(norm_pieces_), norm_count_},
              data_of<const TrainedRange>(norm_ranges_), gradients_, data_of<double>(partial_));
  finish_norm(stream, {.partial = data_of<const double>(partial_),
                       .pieces = norm_count_,
                       .max_norm = max_norm_,
                       .scheduled = scheduled(),
                       .state = data_of<StepState>(step_state_),
                       .ranges = data_of<const UpdateRange>(update_ranges_),
                       .range_count = static_cast<std::int64_t>(ranges_.size()),
                       .counters = data_of<std::int64_t>(counters_),
                       .scalars = data_of<UpdateScalars>(scalars_),
                       .ema_count = ema_count});
  launched("the gradient norm");
}

void RangeStep::enqueue_update() {
  update_ranges(stream_of(*state_), {.pieces = {data_of<const Piece>(update_pieces_), update_count_},
                                     .ranges = data_of<const UpdateRange>(update_ranges_),
                                     .scalars = data_of<const UpdateScalars>(scalars_),
                                     .state = step_state(),
                                     .values = values_,
                                     .gradients = gradients_,
                                     .first = data_of<float>(first_),
                                     .second = data_of<float>(second_)});
  launched("the update of tables and scalars");
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

RangeStep::ReportSlot& RangeStep::report_slot(int slot) {
  base::check(slot >= 0 && slot < slots, "report slot {} of {}", slot, slots);
  return reports_[static_cast<std::size_t>(slot)];
}

void RangeStep::enqueue_report(int slot) {
  auto& report = report_slot(slot);
  ops::cuda::download(*state_, report.value.data(), step_state_.data(), sizeof(StepState));
  report.arrived.record(*state_);
}

GradientNorm RangeStep::report(int slot) {
  const auto& report = report_slot(slot);
  report.arrived.wait();
  const StepState state = report.value.span<StepState>()[0];
  return {state.norm, state.bad == 0};
}

std::vector<DeviceStateBuffer> RangeStep::state(const std::string& prefix) const {
  std::vector<DeviceStateBuffer> buffers;
  for (std::size_t i = 0; i < ranges_.size(); ++i) {
    const auto& [range, rule] = ranges_[i];
    const auto bytes = static_cast<std::size_t>(range.end - range.begin) * sizeof(float);
    const auto moment = [&](const tensor::Buffer& buffer) {
      return reinterpret_cast<std::byte*>(data_of<float>(buffer) + rule.moments);
    };
    const std::string own = prefix + range.name + ".";
    if (rule.rule == Rule::sgd) {
      buffers.push_back({own + "momentum", moment(first_), bytes});
      continue;
    }
    buffers.push_back({own + "step", reinterpret_cast<std::byte*>(data_of<std::int64_t>(counters_) + i),
                       sizeof(std::int64_t)});
    buffers.push_back({own + "m", moment(first_), bytes});
    buffers.push_back({own + "v", moment(second_), bytes});
  }
  return buffers;
}

std::size_t RangeStep::device_bytes() const {
  std::size_t bytes = 0;
  for (const auto* buffer : {&scheduled_, &step_state_, &norm_pieces_, &norm_ranges_, &partial_,
                             &update_pieces_, &update_ranges_, &scalars_, &counters_, &first_, &second_})
    bytes += buffer->bytes();
  return bytes;
}

}  // namespace fairway::optim::cuda
