#include "fairway/exec/form.h"

#include "fairway/ops/attention.h"

#include <algorithm>

namespace fairway::exec {

Form Form::on(const Engine& engine, const model::ModelConfig& config) {
  if (!engine.device().is_cuda()) return {};
  const bool narrow = config.head_dim() == ops::bf16_head_dim;
  return {narrow ? tensor::DType::bf16 : tensor::DType::f32, graph::all_passes()};
}

bool Form::reads_weights() const {
  return dtype == tensor::DType::f32 && std::ranges::none_of(passes, &graph::Pass::changes_weights);
}

graph::Graph Form::program(const model::ModelConfig& config, const graph::ParameterLayout& layout,
                           ProgramSpec spec) const {
  spec.dtype = dtype;
  spec.passes = passes;
  return model::build(config, layout, spec);
}

std::size_t planned_bytes(const model::ModelConfig& config, const Engine& engine, tensor::DType products,
                          const ProgramSpec& spec) {
  graph::ParameterStore nothing(model::make_layout(config), {}, false);
  graph::Plan plan(nothing, engine.runtime(products));
  plan.add(Form::on(engine, config).program(config, nothing.layout(), spec));
  return plan.planned_bytes() - nothing.bytes();
}

}  // namespace fairway::exec
