#pragma once
// The programs that read a model's weights, where an engine runs them.

#include "fairway/model/family.h"
#include "fairway/pipeline/engine.h"

#include <memory>

namespace fairway::pipeline {

/// A plan over weights that stay as they are between refreshes: for scoring and generating. On the CPU
/// programs read the caller's weights; on a GPU a copy of them, rounded and with folded scales where that is
/// faster.
class ModelPrograms {
 public:
  /// `weights` are on the host; they and `engine` must outlive this.
  ModelPrograms(const model::ModelConfig& config, graph::ParameterStore& weights, Engine& engine,
                ops::Products products = ops::Products::f32);
  ~ModelPrograms();

  /// Adds a program; dtype and fold_scales are chosen here. Before allocate().
  graph::Program& add(model::BuildOptions options);
  /// Takes memory and makes the device's copy of the weights.
  void allocate();
  /// Follows a change of the weights; after allocate().
  void refresh();
  graph::Plan& plan() noexcept { return *plan_; }

 private:
  const model::ModelConfig& config_;
  graph::ParameterStore& weights_;
  Engine& engine_;
  std::unique_ptr<graph::ParameterStore> copy_;  ///< on a GPU
  std::unique_ptr<graph::Plan> plan_;
  graph::Program* refresh_ = nullptr;
};

}  // namespace fairway::pipeline
