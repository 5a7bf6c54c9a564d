#pragma once
// Twenty whole optimiser steps against the originals' model (tests/golden/README.md, train20).

#include <gtest/gtest.h>

#include <functional>

#include "fairway/optim/training.h"
#include "model/support.h"

namespace fairway::testing {

inline optim::TrainingConfig train20_config() {
  optim::TrainingConfig c;
  c.muon_momentum = {0.92, 0.99, 12};
  return c;
}

inline optim::StepValues train20_values(int step) {
  return optim::step_values(train20_config(), optim::lr_scale_by_steps(step, 20, 8), step,
                            optim::EmaStep::update);
}

/// What does the training, on any device. The EMA's decay is 0.9.
struct Train20 {
  using Tokens = std::span<const std::int32_t>;
  std::function<void()> begin;  ///< gradients to zero
  std::function<double(Tokens inputs, Tokens targets, float weight)>
      forward_backward;                                  ///< a micro-step's loss
  std::function<double(int step)> update;                ///< the gradient's norm
  std::function<std::vector<float>()> weights, average;  ///< flat
};

inline void expect_train20(const graph::ParameterLayout& layout, const Train20& run) {
  const auto file = golden("train20");
  const auto inputs = file.at("input_ids").as<std::int32_t>(),
             targets = file.at("target_ids").as<std::int32_t>();
  const auto losses = file.floats("loss"), norms = file.floats("grad_norm");
  constexpr std::size_t tokens = 2 * 48;
  for (std::size_t step = 0; step < 20; ++step) {
    run.begin();
    double loss = 0;
    for (std::size_t micro = 0; micro < 2; ++micro) {
      const auto at = (2 * step + micro) * tokens;
      loss += run.forward_backward(std::span(inputs).subspan(at, tokens),
                                   std::span(targets).subspan(at, tokens), 1.0f / (2 * tokens));
    }
    const double norm = run.update(static_cast<int>(step));
    EXPECT_NEAR(loss, losses[step], 1e-4 * losses[step]) << "step " << step;
    EXPECT_NEAR(norm, norms[step], 2e-3 * norms[step]) << "step " << step;
  }
  const auto weights = run.weights(), average = run.average();
  const auto part = [](std::span<const float> flat, const graph::Parameter& p) {
    return flat.subspan(static_cast<std::size_t>(p.offset), static_cast<std::size_t>(p.elements()));
  };
  for (const auto& p : layout.parameters()) {
    EXPECT_LE(max_relative(part(weights, p), file.floats("final/" + p.name)), 1e-3) << p.name;
    if (!file.has("ema/" + p.name)) continue;
    EXPECT_LE(max_relative(part(average, p), file.floats("ema/" + p.name)), 1e-3) << p.name;
  }
}

}  // namespace fairway::testing
