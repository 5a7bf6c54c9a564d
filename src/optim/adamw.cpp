#include "fairway/optim/adamw.h"

#include <cmath>

#include "blocks.h"
#include "fairway/base/error.h"

namespace fairway::optim {

AdamW::AdamW(const AdamWConfig& config, std::int64_t elements)
    : config_(config),
      first_(static_cast<std::size_t>(elements)),
      second_(static_cast<std::size_t>(elements)) {}

void AdamW::step(std::span<float> values, std::span<const float> gradient, double lr, float gradient_scale,
                 base::ThreadPool& pool) {
  base::check(values.size() == first_.size() && gradient.size() == first_.size(),
              "adamw: {} values and {} gradients for {} elements", values.size(), gradient.size(),
              first_.size());
  ++steps_;
  const auto k = static_cast<double>(steps_);
  const kernels::AdamWScalars scalars{
      .gradient_scale = gradient_scale,
      .decay = static_cast<float>(config_.decoupled ? 1.0 - lr * config_.weight_decay : 1.0),
      .coupled_decay = static_cast<float>(config_.decoupled ? 0.0 : config_.weight_decay),
      .beta1 = static_cast<float>(config_.beta1),
      .one_minus_beta1 = static_cast<float>(1.0 - config_.beta1),
      .beta2 = static_cast<float>(config_.beta2),
      .one_minus_beta2 = static_cast<float>(1.0 - config_.beta2),
      .correction1 = static_cast<float>(1.0 - std::pow(config_.beta1, k)),
      .correction2 = static_cast<float>(1.0 - std::pow(config_.beta2, k)),
      .eps = static_cast<float>(config_.eps),
      .lr = static_cast<float>(lr),
  };
  const auto kernel = config_.storage == Storage::bf16 ? kernels::adamw_bf16 : kernels::adamw_f32;
  for_blocks(pool, elements(), [&](std::int64_t begin, std::int64_t n) {
    kernel(values.data() + begin, gradient.data() + begin, first_.data() + begin, second_.data() + begin, n,
           scalars);
  });
}

std::vector<StateBuffer> AdamW::state(const std::string& prefix) {
  return {{prefix + "step", std::as_writable_bytes(std::span(&steps_, 1))},
          {prefix + "m", std::as_writable_bytes(std::span(first_))},
          {prefix + "v", std::as_writable_bytes(std::span(second_))}};
}

}  // namespace fairway::optim
