#include "fairway/pipeline/train_setup.h"

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

optim::ParameterMap parameter_map(const graph::ParameterLayout& layout) {
  optim::ParameterMap map;
  for (const auto& p : layout.parameters()) {
    if (p.group == graph::Group::matrix) map.matrices.push_back({p.name, p.offset, p.shape[0], p.shape[1]});
    if (p.group == graph::Group::table) map.tables.push_back({p.name, p.offset, p.offset + p.elements()});
    if (p.group == graph::Group::scalar) map.scalars.push_back({p.name, p.offset, p.offset + p.elements()});
  }
  return map;
}

ops::Products products(const Recipe& r) {
  return r.train.products == "bf16" ? ops::Products::bf16 : ops::Products::f32;
}

}  // namespace fairway::pipeline
