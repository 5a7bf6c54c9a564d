#include "fairway/optim/sgd.h"

#include <algorithm>

#include "adapt_kernels.h"
#include "blocks.h"
#include "fairway/base/error.h"

namespace fairway::optim {

Sgd::Sgd(double momentum, Storage storage, std::int64_t elements)
    : momentum_(momentum), storage_(storage), velocity_(static_cast<std::size_t>(elements)) {}

void Sgd::step(std::span<float> values, std::span<const float> gradient, double lr, float gradient_scale,
               base::ThreadPool& pool) {
  base::check(values.size() == velocity_.size() && gradient.size() == velocity_.size(),
              "sgd: {} values and {} gradients for {} elements", values.size(), gradient.size(),
              velocity_.size());
  const auto kernel = storage_ == Storage::bf16 ? kernels::sgd_stepwise_bf16 : kernels::sgd_f32;
  const auto momentum = static_cast<float>(momentum_), rate = static_cast<float>(lr);
  for_blocks(pool, static_cast<std::int64_t>(velocity_.size()), [&](std::int64_t begin, std::int64_t n) {
    kernel(values.data() + begin, gradient.data() + begin, velocity_.data() + begin, n, momentum, rate,
           gradient_scale);
  });
}

void Sgd::reset() { std::ranges::fill(velocity_, 0.0f); }

std::vector<StateBuffer> Sgd::state(const std::string& prefix) {
  return {{prefix + "momentum", std::as_writable_bytes(std::span(velocity_))}};
}

}  // namespace fairway::optim
