#include "range_update.h"

#include <algorithm>

#include <fmt/format.h>

#include "blocks.h"

namespace fairway::optim {
RangeUpdate::RangeUpdate(const ParamGroup& group, const ParamRange& parameter, std::span<float> values,
                         std::span<const float> gradients)
    : rule_(group.rule),
      rounding_(rules::rounding_of(group.rule, group.storage)),
      rate_(group.rate),
      parameter_(parameter),
      values_(parameter.range.of(values)),
      gradients_(parameter.range.of(gradients)) {
  rules::with_rule(rule_.kind, rounding_, [&]<class Rule>(Rule) {
    for (int i = 0; i < Rule::moments; ++i) moments_[i].resize(values_.size());
  });
}

void RangeUpdate::step(const StepValues& values, float clip, base::ThreadPool& pool) {
  const auto scalars = rules::scalars_of(rule_, values.lr[rate_] * parameter_.lr_factor, ++steps_);
  float *first = moments_[0].data(), *second = moments_[1].empty() ? first : moments_[1].data();
  for_blocks(pool, parameter_.range.size(), [&](std::int64_t begin, std::int64_t n) {
    kernels::update(rule_.kind, rounding_, scalars, clip, values_.data() + begin, gradients_.data() + begin,
                    first + begin, second + begin, n);
  });
}

void RangeUpdate::reset() {
  steps_ = 0;
  for (auto& moment : moments_) std::ranges::fill(moment, 0.0f);
}

std::vector<StateBuffer> RangeUpdate::state() {
  std::vector<StateBuffer> pieces;
  const auto prefix = fmt::format("{}.{}.", base::name_of(rule_.kind), parameter_.name);
  rules::with_rule(rule_.kind, rounding_, [&]<class Rule>(Rule) {
    if (Rule::counts) pieces.push_back({prefix + "step", std::as_writable_bytes(std::span(&steps_, 1))});
    for (int i = 0; i < Rule::moments; ++i)
      pieces.push_back({prefix + Rule::names[i], std::as_writable_bytes(std::span(moments_[i]))});
  });
  return pieces;
}

}  // namespace fairway::optim
