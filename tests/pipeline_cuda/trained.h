#pragma once
// A training program and all around it, on any device.

#include "fairway/exec/engine.h"
#include "fairway/graph/compute_weights.h"
#include "fairway/model/family.h"
#include "fairway/pipeline/train/train_backend.h"
#include "fairway/tensor/cuda.h"

#include <span>
#include <vector>

namespace fairway::testing {

/// A training program with everything around it, on one device.
class Trained {
 public:
  struct Form {
    tensor::DType dtype = tensor::DType::f32;
    int rows = 1;
    graph::Passes passes = {};
    int q = 0;            ///< levels of late QAT; 0: none
    bool logits = false;  ///< with a program for them
  };
  Trained(const model::ModelConfig& config, exec::Engine& engine, const Form& form)
      : store(model::make_layout(config), engine.device(), true), plan(store, engine.runtime()) {
    const auto [dtype, rows, passes, q, with_logits] = form;
    model::BuildOptions build;
    build.rows = rows;
    build.dtype = dtype;
    build.passes = passes;
    const auto levels =
        q ? graph::QuantLevels([q](const graph::Parameter&) { return q; }) : graph::QuantLevels{};
    auto training = model::build(config, store.layout(), build);
    const auto folds = training.folds;
    if (!folds.empty() || q || dtype != tensor::DType::f32) {
      store.add_compute_weights(dtype);
      before = &plan.add(graph::build_refresh(store.layout(), dtype, folds, levels));
    }
    if (!folds.empty()) after = &plan.add(graph::build_unfold(store.layout(), dtype, folds, levels));
    program = &plan.add(std::move(training));
    if (with_logits) {
      build.mode = model::Mode::logits;
      logits_program = &plan.add(model::build(config, store.layout(), build));
    }
    plan.allocate();
  }

  /// Gradients from zero; the loss.
  double run(const graph::ParameterStore& host, std::span<const std::int32_t> tokens,
             std::span<const std::int32_t> targets) {
    exec::write_weights(store, exec::read_weights(host));
    store.zero_gradients();
    if (before) before->run();
    const double loss = add(tokens, targets, 1.0f / static_cast<float>(tokens.size()));
    if (after) after->run();
    tensor::synchronize(store.device());
    return loss;
  }
  /// A micro-batch whose tokens weigh as much each.
  double add(std::span<const std::int32_t> tokens, std::span<const std::int32_t> targets, float weight) {
    program->write<std::int32_t>("tokens", tokens);
    program->write<std::int32_t>("targets", targets);
    program->fill("weights", weight);
    program->run();
    float loss = 0;
    program->read("loss", std::span(&loss, 1));
    return static_cast<double>(loss);
  }
  /// With the weights of the last run.
  std::vector<float> logits(std::span<const std::int32_t> tokens, std::size_t count) {
    logits_program->write<std::int32_t>("tokens", tokens);
    logits_program->run();
    std::vector<float> all(count);
    logits_program->read<float>("logits", all);
    return all;
  }

  std::vector<float> gradients() const {
    const auto view = store.flat_gradients();
    std::vector<float> flat(static_cast<std::size_t>(view.elements()));
    tensor::copy_bytes({}, flat.data(), store.device(), view.data, view.bytes());
    return flat;
  }
  std::vector<float> gradient(const graph::Parameter& p) const {
    const auto all = gradients();
    return {all.begin() + p.offset, all.begin() + p.offset + p.elements()};
  }

  graph::ParameterStore store;
  graph::Plan plan;
  graph::Program *program = nullptr, *before = nullptr, *after = nullptr, *logits_program = nullptr;
};

}  // namespace fairway::testing
