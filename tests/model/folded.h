#pragma once
// A training program with the programs around it that its passes and its quantiser ask for.

#include "fairway/graph/compute_weights.h"
#include "model/support.h"

namespace fairway::testing {

/// `store` gets compute weights where products read something else than the values.
struct FoldedProgram {
  FoldedProgram(graph::Plan& plan, const model::ModelConfig& config, const model::BuildOptions& options,
                int q = 0) {
    auto& store = plan.parameters();
    const auto levels =
        q ? graph::QuantLevels([q](const graph::Parameter&) { return q; }) : graph::QuantLevels{};
    auto graph = model::build(config, store.layout(), options);
    const auto folds = graph.folds;
    if (q || !folds.empty() || options.dtype == tensor::DType::bf16) {
      store.add_compute_weights(options.dtype);
      refresh = &plan.add(graph::build_refresh(store.layout(), options.dtype, folds, levels));
    }
    program = &plan.add(std::move(graph));
    if (!folds.empty()) unfold = &plan.add(graph::build_unfold(store.layout(), options.dtype, folds, levels));
  }
  void run() const {
    if (refresh) refresh->run();
    program->run();
    if (unfold) unfold->run();
  }
  graph::Program *program = nullptr, *refresh = nullptr, *unfold = nullptr;
};

}  // namespace fairway::testing
