#pragma once
// Programs in words that say nothing of their form, and the form that a device gives them: the one place
// that knows both.

#include "fairway/exec/engine.h"
#include "fairway/model/family.h"

#include <functional>
#include <string_view>

namespace fairway::exec {

/// One program of a run (model::BuildOptions has the same fields and what belongs to the form).
struct ProgramSpec {
  model::Mode mode = model::Mode::train;
  int rows = 1;
  int length = 0;    ///< 0: the configuration's window
  int last = 0;      ///< score: so many positions at the end; 0: all
  int capacity = 0;  ///< decode: cache entries; 0: the window
  float z_loss = 0;
  std::function<bool(std::string_view)> trainable = {};  ///< train: by name; empty: everything
};

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
                       const ProgramSpec& spec) const;
  /// Makes the compute weights from the weights; `levels`: fake-quantised, empty: not.
  graph::Graph refresh(const model::ModelConfig& config, const graph::ParameterLayout& layout,
                       const Levels& levels) const;
  /// Makes the gradients of weights and scales from those of folded weights, for what a training program
  /// trains; needed with folded scales only. `levels` as in the refresh.
  graph::Graph unfold(const model::ModelConfig& config, const graph::ParameterLayout& layout,
                      const ProgramSpec& spec, const Levels& levels) const;
};

/// Bytes that programs take beside the weights (arena, states and constants), before anything is taken.
std::size_t planned_bytes(const model::ModelConfig& config, const Engine& engine, ops::Products products,
                          const ProgramSpec& spec);

}  // namespace fairway::exec
