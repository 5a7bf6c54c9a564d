#pragma once
// The form that a device gives to the programs of a model: the one place that decides it.

#include "fairway/exec/engine.h"
#include "fairway/graph/compute_weights.h"
#include "fairway/model/family.h"

namespace fairway::exec {

/// One program of a run; dtype and passes are the form's, whatever stands there.
using ProgramSpec = model::BuildOptions;

/// How the programs of a model are written. All programs over one set of weights have one form: they read
/// the same compute weights, so they must agree on what is folded into them.
struct Form {
  tensor::DType dtype = tensor::DType::f32;  ///< of activations and products
  graph::Passes passes = graph::cpu_passes();

  /// On the CPU in f32. On a GPU bf16 (fp32 sums) where its attention has the heads' size, else f32, with
  /// every pass.
  static Form on(const Engine& engine, const model::ModelConfig& config);
  /// Programs can read the weights themselves.
  bool reads_weights() const;

  graph::Graph program(const model::ModelConfig& config, const graph::ParameterLayout& layout,
                       ProgramSpec spec) const;
};

/// Bytes that a program takes beside the weights (arena, states and constants), before anything is taken.
std::size_t planned_bytes(const model::ModelConfig& config, const Engine& engine, tensor::DType products,
                          const ProgramSpec& spec);

}  // namespace fairway::exec
