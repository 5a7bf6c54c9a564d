#include "fairway/pipeline/train/train_setup.h"

#include "fairway/base/error.h"
#include "fairway/model/family.h"
#include "fairway/pipeline/stages/model_file.h"

namespace fairway::pipeline {
namespace {

/// f32 or bf16 as another layer calls them.
template <class Format>
Format narrow(tensor::DType dtype) {
  return dtype == tensor::DType::bf16 ? Format::bf16 : Format::f32;
}

}  // namespace

optim::OptimizerConfig optimizer_config(const Recipe& r) {
  optim::OptimizerConfig c;
  c.matrix_lr = r.optim.matrix_lr;
  c.table_lr = r.optim.table_lr;
  c.scalar_lr = r.optim.scalar_lr;
  c.muon_momentum = {r.optim.muon_momentum_start, r.optim.muon_momentum_end, r.optim.muon_momentum_steps};
  c.ns_steps = r.optim.ns_steps;
  c.ns_precision = narrow<optim::Precision>(r.optim.ns_precision);
  c.muon_weight_decay = r.optim.muon_weight_decay;
  c.adam_weight_decay = r.optim.adam_weight_decay;
  c.beta1 = r.optim.beta1;
  c.beta2 = r.optim.beta2;
  c.eps = r.optim.eps;
  c.grad_clip = r.optim.grad_clip;
  c.tables = narrow<optim::Storage>(r.optim.tables);
  c.schedule = {r.train.schedule, r.train.steps, r.train.seconds * 1000.0, r.train.warmdown_steps};
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
  if (r.optim.tables != tensor::DType::bf16) return {};
  return parameter_map(layout).tables;
}

void round_tables(const Recipe& r, const graph::ParameterLayout& layout, std::span<float> flat) {
  for (const auto& range : bf16_ranges(r, layout))
    for (auto& v : flat.subspan(static_cast<std::size_t>(range.begin),
                                static_cast<std::size_t>(range.end - range.begin)))
      v = tensor::round_to_bf16(v);
}

void initial_weights(const Recipe& r, graph::ParameterStore& store, base::ThreadPool& pool) {
  model::initialise(store, r.model, static_cast<std::uint64_t>(r.seed), pool);
  if (!r.train.init.empty()) load_safetensors(store, r.train.init);
  round_tables(r, store.layout(), store.flat_values().span<float>());
}

optim::Ema make_ema(const Recipe& r, std::span<const float> initial) {
  return {r.average.decay, initial, narrow<optim::Storage>(r.average.dtype)};
}

int micro_batch_rows(const Recipe& r) {
  const auto rows = r.train.batch_tokens / r.model.window;
  if (r.train.micro_batch > 0) return r.train.micro_batch;
  // 4,096 tokens keep every product near its peak rate on a CPU; more only takes memory.
  constexpr std::int64_t tokens = 4096;
  std::int64_t best = 1;
  for (std::int64_t n = 1; n <= rows; ++n)
    if (rows % n == 0 && n * r.model.window <= tokens) best = n;
  return static_cast<int>(best);
}

std::function<int(std::string_view)> qat_levels(const Recipe& r) {
  return [qat = r.qat](std::string_view name) {
    const int bits = name.find(".attn.") != name.npos  ? qat.attention
                     : name.find(".mlp.") != name.npos ? qat.mlp
                                                       : qat.other;
    return bits == 0 ? 0 : (1 << (bits - 1)) - 1;
  };
}

ops::Products products(const Recipe& r) { return narrow<ops::Products>(r.train.products); }

}  // namespace fairway::pipeline
