// The originals' twenty steps on the CPU.

#include <gtest/gtest.h>

#include "model/train20.h"

namespace fairway::testing {
namespace {

optim::TrainedParameters parameters_of(const graph::ParameterLayout& layout) {
  optim::TrainedParameters all;
  for (const auto& p : layout.parameters()) {
    const base::Range range{p.offset, p.offset + p.elements()};
    if (p.group == graph::Group::matrix) all.matrices.push_back({p.name, range, p.shape[0], p.shape[1]});
    if (p.group == graph::Group::embedding) all.embeddings.push_back({p.name, range});
    if (p.group == graph::Group::scalar) all.scalars.push_back({p.name, range});
  }
  return all;
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
  const auto optimizer = optim::make_optimizer(
      optim::optimizer_config(train20_config(), parameters_of(store.layout()), {.ema_decay = 0.9}),
      store.flat_values(), store.flat_gradients(), &pool, nullptr);
  const auto forward_backward = [&](Train20::Tokens tokens, Train20::Tokens targets, float weight) {
    program.write("tokens", tokens);
    program.write("targets", targets);
    program.fill("weights", weight);
    program.run();
    return static_cast<double>(program.view("loss").as<float>()[0]);
  };
  const auto average = [&] {
    std::vector<float> flat(values.size());
    optimizer->read_average(optim::Average::ema, flat);
    return flat;
  };
  expect_train20(store.layout(),
                 {.begin = [&] { store.zero_gradients(); },
                  .forward_backward = forward_backward,
                  .update = [&](int step) { return optimizer->step(train20_values(step)).norm; },
                  .weights = [&] { return std::vector<float>(values.begin(), values.end()); },
                  .average = average});
}

}  // namespace
}  // namespace fairway::testing
