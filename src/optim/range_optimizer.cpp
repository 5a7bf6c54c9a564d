#include "fairway/optim/range_optimizer.h"

#include <algorithm>
#include <cmath>
#include <variant>

#include "adapt_kernels.h"
#include "blocks.h"
#include "fairway/base/error.h"
#include "fairway/optim/adamw.h"
#include "fairway/optim/sgd.h"

namespace fairway::optim {
namespace {

/// Adam as PyTorch's unfused optimisers run it on bf16 tensors.
class StepwiseAdam {
 public:
  StepwiseAdam(const RangeOptimizerConfig& config, std::int64_t elements)
      : config_(config),
        first_(static_cast<std::size_t>(elements)),
        second_(static_cast<std::size_t>(elements)) {}

  void step(std::span<float> values, std::span<const float> gradient, double lr, float scale,
            base::ThreadPool& pool) {
    ++steps_;
    const auto k = static_cast<double>(steps_);
    const bool decoupled = config_.rule == RangeRule::adamw;
    const kernels::StepwiseScalars s{
        .gradient_scale = scale,
        .decay = static_cast<float>(decoupled ? 1.0 - lr * config_.weight_decay : 1.0),
        .coupled_decay = static_cast<float>(decoupled ? 0.0 : config_.weight_decay),
        .one_minus_beta1 = static_cast<float>(1.0 - config_.beta1),
        .beta2 = static_cast<float>(config_.beta2),
        .one_minus_beta2 = static_cast<float>(1.0 - config_.beta2),
        .root = static_cast<float>(std::sqrt(1.0 - std::pow(config_.beta2, k))),
        .eps = static_cast<float>(config_.eps),
        .lr_corrected = static_cast<float>(lr / (1.0 - std::pow(config_.beta1, k)))};
    for_blocks(pool, static_cast<std::int64_t>(first_.size()), [&](std::int64_t begin, std::int64_t n) {
      kernels::adam_stepwise_bf16(values.data() + begin, gradient.data() + begin, first_.data() + begin,
                                  second_.data() + begin, n, s);
    });
  }
  std::vector<StateBuffer> state(const std::string& prefix) {
    return {{prefix + "step", std::as_writable_bytes(std::span(&steps_, 1))},
            {prefix + "m", std::as_writable_bytes(std::span(first_))},
            {prefix + "v", std::as_writable_bytes(std::span(second_))}};
  }

 private:
  RangeOptimizerConfig config_;
  std::int64_t steps_ = 0;
  std::vector<float> first_, second_;
};

using Rule = std::variant<AdamW, StepwiseAdam, Sgd>;

Rule make_rule(const RangeOptimizerConfig& c, const OptimizedRange& range) {
  const std::int64_t elements = range.end - range.begin;
  if (c.rule == RangeRule::sgd) return Sgd(c.momentum, range.storage, elements);
  if (range.storage == Storage::bf16) return StepwiseAdam(c, elements);
  return AdamW(AdamWConfig{.beta1 = c.beta1,
                           .beta2 = c.beta2,
                           .eps = c.eps,
                           .weight_decay = c.weight_decay,
                           .decoupled = c.rule == RangeRule::adamw,
                           .storage = Storage::f32},
               elements);
}

}  // namespace

struct RangeOptimizer::Parts {
  struct Part {
    OptimizedRange range;
    std::span<float> values;
    std::span<const float> gradients;
    Rule rule;
  };
  Parts(double clip, GradientNormer norm, base::ThreadPool& threads)
      : grad_clip(clip), normer(std::move(norm)), pool(&threads) {}
  double grad_clip;
  GradientNormer normer;
  std::vector<Part> parts;
  base::ThreadPool* pool;
};

namespace {

std::vector<std::span<const float>> parts_of(std::span<const float> flat,
                                             const std::vector<OptimizedRange>& ranges) {
  std::vector<std::span<const float>> parts;
  for (const auto& r : ranges) {
    base::check(r.begin >= 0 && r.begin < r.end && r.end <= static_cast<std::int64_t>(flat.size()),
                "range {} is [{}, {}) of {}", r.name, r.begin, r.end, flat.size());
    parts.push_back(
        flat.subspan(static_cast<std::size_t>(r.begin), static_cast<std::size_t>(r.end - r.begin)));
  }
  return parts;
}

}  // namespace

RangeOptimizer::RangeOptimizer(const RangeOptimizerConfig& config, const std::vector<OptimizedRange>& ranges,
                               std::span<float> values, std::span<const float> gradients,
                               base::ThreadPool& pool)
    : parts_(std::make_unique<Parts>(config.grad_clip, GradientNormer(parts_of(gradients, ranges)), pool)) {
  base::check(values.size() == gradients.size(), "{} values, {} gradients", values.size(), gradients.size());
  for (const auto& r : ranges) {
    const auto begin = static_cast<std::size_t>(r.begin), size = static_cast<std::size_t>(r.end - r.begin);
    parts_->parts.push_back(
        {r, values.subspan(begin, size), gradients.subspan(begin, size), make_rule(config, r)});
  }
}

RangeOptimizer::~RangeOptimizer() = default;
RangeOptimizer::RangeOptimizer(RangeOptimizer&&) noexcept = default;

GradientNorm RangeOptimizer::step(double lr) {
  const auto norm = parts_->normer(*parts_->pool);
  if (!norm.finite) return norm;
  const float clip = clip_factor(norm.norm, parts_->grad_clip);
  for (auto& part : parts_->parts)
    std::visit(
        [&](auto& rule) {
          rule.step(part.values, part.gradients, lr * part.range.lr_factor, clip, *parts_->pool);
        },
        part.rule);
  return norm;
}

void RangeOptimizer::reset() {
  for (auto& buffer : state()) std::ranges::fill(buffer.bytes, std::byte{0});
}

std::vector<StateBuffer> RangeOptimizer::state() {
  std::vector<StateBuffer> all;
  for (auto& part : parts_->parts) {
    auto own = std::visit([&](auto& rule) { return rule.state(part.range.name + "."); }, part.rule);
    all.insert(all.end(), own.begin(), own.end());
  }
  return all;
}

}  // namespace fairway::optim
