#include "fairway/pipeline/model_programs.h"

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
  copy_->add_working_copy(engine.activations(config));
  plan_ = std::make_unique<graph::Plan>(*copy_, engine.runtime(products));
  refresh_ = &plan_->add(model::build_refresh(config, weights.layout(), engine.refresh_options(config)));
}
ModelPrograms::~ModelPrograms() = default;

graph::Program& ModelPrograms::add(model::BuildOptions options) {
  const auto here = engine_.build_options(config_);
  options.dtype = here.dtype;
  options.fold_scales = here.fold_scales;
  options.fuse = here.fuse;
  return plan_->add(model::build(config_, weights_.layout(), options));
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
