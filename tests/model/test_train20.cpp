// Twenty whole optimiser steps against the originals' model (tests/golden/README.md, train20).

#include <gtest/gtest.h>

#include "fairway/optim/average.h"
#include "fairway/optim/optimizer.h"
#include "model/support.h"
#include "model/train20.h"

namespace fairway::testing {
namespace {

optim::ParameterMap map_of(const graph::ParameterLayout& layout) {
  optim::ParameterMap map;
  for (const auto& p : layout.parameters()) {
    if (p.group == graph::Group::matrix) map.matrices.push_back({p.name, p.offset, p.shape[0], p.shape[1]});
    if (p.group == graph::Group::table) map.tables.push_back({p.name, p.offset, p.offset + p.elements()});
    if (p.group == graph::Group::scalar) map.scalars.push_back({p.name, p.offset, p.offset + p.elements()});
  }
  return map;
}

TEST(Train20, LossesNormsParametersAndEma) {
  const auto file = golden("train20");
  const auto config = golden_config(golden("sp1024_params"), "leaky_square");
  base::ThreadPool pool(2);
  graph::ParameterStore store(model::make_layout(config), {}, true);
  load(store, golden("sp1024_params"));
  graph::Plan plan(store, runtime_on(pool));
  model::BuildOptions options;
  options.rows = 2;
  auto& program = plan.add(model::build(config, store.layout(), options));
  plan.allocate();
  auto values = store.flat_values().span<float>();
  optim::Optimizer optimizer(train20_config(), map_of(store.layout()), values,
                             store.flat_gradients().span<float>(), pool);
  optim::Ema ema(0.9, values);

  const auto inputs = file.at("input_ids").as<std::int32_t>(),
             targets = file.at("target_ids").as<std::int32_t>();
  const auto losses = file.floats("loss"), norms = file.floats("grad_norm");
  constexpr int tokens = 2 * 48;
  auto weights = program.view("weights").span<float>();
  for (int step = 0; step < 20; ++step) {
    store.zero_gradients();
    double loss = 0;
    for (int micro = 0; micro < 2; ++micro) {
      const auto at = (step * 2 + micro) * tokens;
      std::copy_n(inputs.begin() + at, tokens, program.view("tokens").span<std::int32_t>().begin());
      std::copy_n(targets.begin() + at, tokens, program.view("targets").span<std::int32_t>().begin());
      std::fill(weights.begin(), weights.end(), 1.0f / (2 * tokens));
      program.run();
      loss += static_cast<double>(program.view("loss").as<float>()[0]);
    }
    const auto report = optimizer.step({step, 0.0});
    ema.update(values, pool);
    EXPECT_NEAR(loss, losses[static_cast<std::size_t>(step)], 1e-4 * losses[static_cast<std::size_t>(step)])
        << "step " << step;
    EXPECT_NEAR(report.gradient.norm, norms[static_cast<std::size_t>(step)],
                2e-3 * norms[static_cast<std::size_t>(step)])
        << "step " << step;
  }
  for (const auto& p : store.layout().parameters()) {
    EXPECT_LE(max_relative(store.value(p.name).span<float>(), file.floats("final/" + p.name)), 1e-3)
        << p.name;
    if (!file.has("ema/" + p.name)) continue;
    const auto average =
        ema.values().subspan(static_cast<std::size_t>(p.offset), static_cast<std::size_t>(p.elements()));
    EXPECT_LE(max_relative(average, file.floats("ema/" + p.name)), 1e-3) << p.name;
  }
}

}  // namespace
}  // namespace fairway::testing
