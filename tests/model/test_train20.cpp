// The originals' twenty steps on the CPU.

#include <gtest/gtest.h>

#include "fairway/optim/average.h"
#include "fairway/optim/optimizer.h"
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
  const auto config = golden_config(golden("sp1024_params"), "leaky_square");
  base::ThreadPool pool(2);
  graph::ParameterStore store(model::make_layout(config), {}, true);
  load(store, golden("sp1024_params"));
  graph::Plan plan(store, runtime_on(pool));
  model::BuildOptions options;
  options.rows = 2;
  auto& program = plan.add(model::build(config, store.layout(), options));
  plan.allocate();
  const auto values = store.flat_values().span<float>();
  optim::Optimizer optimizer(train20_config(), map_of(store.layout()), values,
                             store.flat_gradients().span<float>(), pool);
  optim::Ema ema(0.9, values);
  const auto forward_backward = [&](Train20::Tokens tokens, Train20::Tokens targets, float weight) {
    program.write("tokens", tokens);
    program.write("targets", targets);
    program.fill("weights", weight);
    program.run();
    return static_cast<double>(program.view("loss").as<float>()[0]);
  };
  const auto update = [&](int step) {
    const auto report = optimizer.step({step, 0.0});
    ema.update(values, pool);
    return report.gradient.norm;
  };
  const auto copy = [](std::span<const float> flat) { return std::vector<float>(flat.begin(), flat.end()); };
  expect_train20(store.layout(), {.begin = [&] { store.zero_gradients(); },
                                  .forward_backward = forward_backward,
                                  .update = update,
                                  .weights = [&] { return copy(values); },
                                  .average = [&] { return copy(ema.values()); }});
}

}  // namespace
}  // namespace fairway::testing
