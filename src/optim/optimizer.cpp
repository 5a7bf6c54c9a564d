#include "fairway/optim/optimizer.h"

#include "fairway/base/error.h"
#include "kernels.h"
#include "trained_ranges.h"

namespace fairway::optim {
namespace {

std::vector<MuonMatrix> muon_matrices(const ParameterMap& map, std::span<float> values,
                                      std::span<const float> gradients) {
  std::vector<MuonMatrix> matrices;
  for (const auto& slot : map.matrices) {
    const auto offset = static_cast<std::size_t>(slot.offset);
    const auto size = static_cast<std::size_t>(slot.rows * slot.columns);
    matrices.push_back(
        {slot.name, values.subspan(offset, size), gradients.subspan(offset, size), slot.rows, slot.columns});
  }
  return matrices;
}

std::vector<std::span<const float>> trained_gradients(const ParameterMap& map, std::span<float> values,
                                                      std::span<const float> gradients) {
  base::check(values.size() == gradients.size(), "optimizer: {} values, {} gradients", values.size(),
              gradients.size());
  std::vector<std::span<const float>> parts;
  for (const auto& range : trained_ranges(map, static_cast<std::int64_t>(values.size())))
    parts.push_back(gradients.subspan(static_cast<std::size_t>(range.begin),
                                      static_cast<std::size_t>(range.end - range.begin)));
  return parts;
}

MuonConfig muon_config(const OptimizerConfig& config) {
  return {.ns_steps = config.ns_steps,
          .precision = config.ns_precision,
          .weight_decay = config.muon_weight_decay};
}

AdamWConfig adamw_config(const OptimizerConfig& config, Storage storage) {
  return {.beta1 = config.beta1,
          .beta2 = config.beta2,
          .eps = config.eps,
          .weight_decay = config.adam_weight_decay,
          .decoupled = config.adam_decoupled,
          .storage = storage};
}

}  // namespace

Optimizer::Optimizer(const OptimizerConfig& config, const ParameterMap& map, std::span<float> values,
                     std::span<const float> gradients, base::ThreadPool& pool)
    : config_(config),
      values_(values),
      gradients_(gradients),
      pool_(&pool),
      normer_(trained_gradients(map, values, gradients)),
      muon_(muon_config(config), muon_matrices(map, values, gradients), pool) {
  const auto add = [&](const FlatRange& range, double lr, Storage storage) {
    groups_.push_back({range, lr, AdamW(adamw_config(config, storage), range.end - range.begin)});
  };
  for (const auto& range : map.tables) add(range, config.table_lr, config.tables);
  for (const auto& range : map.scalars) add(range, config.scalar_lr, Storage::f32);
}

StepReport Optimizer::step(const Progress& progress) {
  StepReport report;
  report.gradient = normer_(*pool_);
  report.lr_scale = lr_scale(config_.schedule, progress);
  report.momentum = momentum_at(config_.muon_momentum, progress.step);
  if (!report.gradient.finite) return report;
  report.clip = clip_factor(report.gradient.norm, config_.grad_clip);
  muon_.step(config_.matrix_lr * report.lr_scale, report.momentum, report.clip);
  for (auto& group : groups_) {
    const auto begin = static_cast<std::size_t>(group.range.begin);
    const auto size = static_cast<std::size_t>(group.range.end - group.range.begin);
    group.adam.step(values_.subspan(begin, size), gradients_.subspan(begin, size), group.lr * report.lr_scale,
                    report.clip, *pool_);
  }
  return report;
}

void Optimizer::round_to_storage(std::span<float> values) const {
  base::check(values.size() == values_.size(), "optimizer: {} values for {}", values.size(), values_.size());
  for (const auto& group : groups_)
    if (group.adam.config().storage == Storage::bf16)
      kernels::round_bf16(values.data() + group.range.begin, group.range.end - group.range.begin);
}

std::vector<StateBuffer> Optimizer::state() {
  auto buffers = muon_.state("muon.");
  for (auto& group : groups_)
    for (auto& buffer : group.adam.state("adamw." + group.range.name + "."))
      buffers.push_back(std::move(buffer));
  return buffers;
}

}  // namespace fairway::optim
