#include "fairway/pipeline/model_programs.h"

#include "fairway/graph/compute_weights.h"

#include "fairway/tensor/cuda.h"

namespace fairway::pipeline {

ModelPrograms::ModelPrograms(const model::ModelConfig& config, graph::ParameterStore& weights, Engine& engine,
                             ops::Products products)
    : config_(config), weights_(weights), engine_(engine) {
  base::check(!weights.device().is_cuda(), "weights are handed over on the host");
  if (!engine.device().is_cuda()) {
    plan_ = std::make_unique<graph::Plan>(weights, engine.runtime(products));
    return;
  }
  copy_ = std::make_unique<graph::ParameterStore>(weights.layout(), engine.device(), false);
  copy_->add_compute_weights(engine.activations(config));
  plan_ = std::make_unique<graph::Plan>(*copy_, engine.runtime(products));
}
ModelPrograms::~ModelPrograms() = default;

graph::Program& ModelPrograms::add(model::BuildOptions options) {
  const auto here = engine_.build_options(config_);
  options.dtype = here.dtype;
  options.passes = here.passes;
  auto& program = plan_->add(model::build(config_, weights_.layout(), options));
  if (copy_ && !refresh_)
    refresh_ = &plan_->add(graph::build_refresh(weights_.layout(), here.dtype, program.graph().folds));
  return program;
}

void ModelPrograms::allocate() {
  plan_->allocate();
  refresh();
}

void ModelPrograms::refresh() {
  if (!copy_) return;
  const auto from = weights_.flat_values(), to = copy_->flat_values();
  engine_.cuda()->synchronize();  // nobody reads the old weights any more
  tensor::copy_bytes(copy_->device(), to.data, {}, from.data, from.bytes());
  refresh_->run();
}

}  // namespace fairway::pipeline
