#include "fairway/exec/form.h"

#include "fairway/ops/attention.h"

namespace fairway::exec {

namespace {

model::RefreshOptions refresh_options(const Form& form, const Levels& levels) {
  model::RefreshOptions options;
  options.dtype = form.dtype;
  options.fold_scales = form.fold_scales;
  options.quantize = levels;
  return options;
}

}  // namespace

Form Form::on(const Engine& engine, const model::ModelConfig& config) {
  if (!engine.device().is_cuda()) return {};
  const bool narrow = config.head_dim() == ops::bf16_head_dim;
  return {narrow ? tensor::DType::bf16 : tensor::DType::f32, true, model::Fusion::all()};
}

graph::Graph Form::program(const model::ModelConfig& config, const graph::ParameterLayout& layout,
                           ProgramSpec spec) const {
  spec.dtype = dtype;
  spec.fold_scales = fold_scales;
  spec.fuse = fuse;
  return model::build(config, layout, spec);
}

graph::Graph Form::refresh(const model::ModelConfig& config, const graph::ParameterLayout& layout,
                           const Levels& levels) const {
  return model::build_refresh(config, layout, refresh_options(*this, levels));
}

std::optional<graph::Graph> Form::unfold(const model::ModelConfig& config,
                                         const graph::ParameterLayout& layout, const ProgramSpec& spec,
                                         const Levels& levels) const {
  if (!fold_scales) return {};
  auto options = refresh_options(*this, levels);
  options.trainable = spec.trainable;
  return model::build_unfold(config, layout, options);
}

std::size_t planned_bytes(const model::ModelConfig& config, const Engine& engine, ops::Products products,
                          const ProgramSpec& spec) {
  graph::ParameterStore nothing(model::make_layout(config), {}, false);
  graph::Plan plan(nothing, engine.runtime(products));
  plan.add(Form::on(engine, config).program(config, nothing.layout(), spec));
  return plan.planned_bytes() - nothing.bytes();
}

}  // namespace fairway::exec
