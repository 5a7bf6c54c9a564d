#pragma once
// The form that a device gives the programs of a model: the one place that knows of it.

#include "fairway/exec/engine.h"
#include "fairway/model/family.h"

#include <functional>
#include <optional>
#include <string_view>

namespace fairway::exec {

/// One program of a run: mode, rows, length and the like. What belongs to the form (dtype, fold_scales, fuse)
/// is set by exec.
using ProgramSpec = model::BuildOptions;

/// q of the straight-through row quantiser of a matrix, by its name (31: int6; 0: none).
using Levels = std::function<int(std::string_view)>;

/// How the programs of a model are written. All programs over one set of weights have one form: they read
/// the same compute weights, so they must agree on what is folded into them.
struct Form {
  tensor::DType dtype = tensor::DType::f32;  ///< of activations and products
  bool fold_scales = false;
  model::Fusion fuse = {};

  /// On the CPU plain, in f32. On a GPU bf16 (fp32 sums) where its attention has the heads' size, else f32;
  /// scales folded into the weights, activations inside products.
  static Form on(const Engine& engine, const model::ModelConfig& config);
  /// Programs can read the weights themselves.
  bool plain() const { return dtype == tensor::DType::f32 && !fold_scales; }

  graph::Graph program(const model::ModelConfig& config, const graph::ParameterLayout& layout,
                       ProgramSpec spec) const;
  /// Makes the compute weights from the weights; `levels`: fake-quantised, empty: not.
  graph::Graph refresh(const model::ModelConfig& config, const graph::ParameterLayout& layout,
                       const Levels& levels) const;
  /// Makes the gradients of weights and scales from those of folded weights, for what `spec` trains; nothing
  /// where none is folded. `levels` as in the refresh.
  std::optional<graph::Graph> unfold(const model::ModelConfig& config, const graph::ParameterLayout& layout,
                                     const ProgramSpec& spec, const Levels& levels) const;
};

/// Bytes that a program takes beside the weights (arena, states and constants), before anything is taken.
std::size_t planned_bytes(const model::ModelConfig& config, const Engine& engine, ops::Products products,
                          const ProgramSpec& spec);

}  // namespace fairway::exec
