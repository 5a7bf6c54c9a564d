#include "fairway/pipeline/train/train_setup.h"

#include "fairway/exec/model_runner.h"
#include "fairway/pipeline/stages/model_file.h"

namespace fairway::pipeline {

optim::OptimizerConfig optimizer_config(const Recipe& r) {
  optim::OptimizerConfig c;
  c.matrix_lr = r.optim.matrix_lr;
  c.table_lr = r.optim.table_lr;
  c.scalar_lr = r.optim.scalar_lr;
  c.muon_momentum = {r.optim.muon_momentum_start, r.optim.muon_momentum_end, r.optim.muon_momentum_steps};
  c.ns_steps = r.optim.ns_steps;
  c.ns_precision = r.optim.ns_precision == "bf16" ? optim::Precision::bf16 : optim::Precision::f32;
  c.muon_weight_decay = r.optim.muon_weight_decay;
  c.adam_weight_decay = r.optim.adam_weight_decay;
  c.beta1 = r.optim.beta1;
  c.beta2 = r.optim.beta2;
  c.eps = r.optim.eps;
  c.grad_clip = r.optim.grad_clip;
  c.tables = r.optim.tables == "bf16" ? optim::Storage::bf16 : optim::Storage::f32;
  const bool by_clock = r.train.schedule == "wall_clock";
  c.schedule = {by_clock ? optim::ScheduleKind::wall_clock : optim::ScheduleKind::steps, r.train.steps,
                r.train.seconds * 1000.0, r.train.warmdown_steps};
  return c;
}

void target_weights(const Recipe& r, std::span<float> weights) {
  const auto window = static_cast<std::size_t>(r.model.window),
             covered = static_cast<std::size_t>(r.model.memory_tokens);
  const auto counted = r.train.batch_tokens / r.model.window * (r.model.window - r.model.memory_tokens);
  const float each = 1.0f / static_cast<float>(counted);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = i % window < covered ? 0.0f : each;
}

optim::ParameterMap parameter_map(const graph::ParameterLayout& layout) {
  optim::ParameterMap map;
  for (const auto& p : layout.parameters()) {
    if (p.group == graph::Group::matrix) map.matrices.push_back({p.name, p.offset, p.shape[0], p.shape[1]});
    if (p.group == graph::Group::table) map.tables.push_back({p.name, p.offset, p.offset + p.elements()});
    if (p.group == graph::Group::scalar) map.scalars.push_back({p.name, p.offset, p.offset + p.elements()});
  }
  return map;
}

std::vector<optim::FlatRange> bf16_ranges(const Recipe& r, const graph::ParameterLayout& layout) {
  if (r.optim.tables != "bf16") return {};
  return parameter_map(layout).tables;
}

void round_tables(const Recipe& r, const graph::ParameterLayout& layout, std::span<float> flat) {
  for (const auto& range : bf16_ranges(r, layout))
    for (auto& v : flat.subspan(static_cast<std::size_t>(range.begin),
                                static_cast<std::size_t>(range.end - range.begin)))
      v = tensor::round_to_bf16(v);
}

void initial_weights(const Recipe& r, graph::ParameterStore& store, base::ThreadPool& pool) {
  if (store.device().is_cuda()) {
    graph::ParameterStore host(store.layout(), {}, false);
    initial_weights(r, host, pool);
    return exec::write_weights(store, host.flat_values().span<float>());
  }
  model::initialise(store, static_cast<std::uint64_t>(r.seed), pool);
  if (!r.train.init.empty()) load_safetensors(store, r.train.init);
  round_tables(r, store.layout(), store.flat_values().span<float>());
}

optim::Ema make_ema(const Recipe& r, std::span<const float> initial) {
  return {r.average.decay, initial, r.average.dtype == "bf16" ? optim::Storage::bf16 : optim::Storage::f32};
}

graph::QuantLevels qat_levels(const Recipe& r) {
  return [qat = r.qat](const graph::Parameter& p) {
    const int bits = p.role == graph::Role::attention ? qat.attention
                     : p.role == graph::Role::mlp     ? qat.mlp
                                                      : qat.other;
    return bits == 0 ? 0 : (1 << (bits - 1)) - 1;
  };
}

ops::Products products(const Recipe& r) {
  return r.train.products == "bf16" ? ops::Products::bf16 : ops::Products::f32;
}

}  // namespace fairway::pipeline
