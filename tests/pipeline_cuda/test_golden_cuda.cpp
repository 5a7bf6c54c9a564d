// The originals' numbers on a GPU in fp32, to the tolerances of tests/golden/README.md: loss, logits, every
// gradient, and twenty whole optimiser steps.
#include "fairway/pipeline/train/train_setup.h"
#include "gpu.h"
#include "model/support.h"
#include "model/train20.h"
#include "trained.h"

#include <iostream>

namespace fairway::testing {
namespace {

struct GoldenCase {
  std::string file, parameters, activation;
  int q = 0;
  bool passes = false;
};

void PrintTo(const GoldenCase& c, std::ostream* out) { *out << c.file; }

class GoldenOnGpu : public OnGpu, public ::testing::WithParamInterface<GoldenCase> {};

TEST_P(GoldenOnGpu, LossLogitsAndGradientsInFp32) {
  const auto& c = GetParam();
  exec::Engine gpu(on(first_gpu));
  const auto file = golden(c.file);
  const auto config = golden_config(file, c.activation);
  graph::ParameterStore host(model::make_layout(config), {}, false);
  load(host, golden(c.parameters));
  Trained trained(config, gpu,
                  {.rows = static_cast<int>(file.at("input_ids").shape[0]),
                   .passes = c.passes ? graph::all_passes() : graph::Passes{},
                   .q = c.q,
                   .logits = file.has("logits")});
  const auto tokens = file.at("input_ids").as<std::int32_t>(),
             targets = file.at("target_ids").as<std::int32_t>();
  const double loss = trained.run(host, tokens, targets), expected = file.floats("loss")[0];
  EXPECT_NEAR(loss, expected, 1e-5 * expected);
  double worst = 0;
  std::string where;
  const auto compare = [&](const std::string& name, const std::vector<float>& here) {
    const double apart = max_relative(here, file.floats(name));
    EXPECT_LE(apart, 1e-5) << name;
    if (apart > worst) worst = apart, where = name;
  };
  int compared = 0;
  for (const auto& p : trained.store.layout().parameters()) {
    if (!file.has("grad/" + p.name)) continue;
    compare("grad/" + p.name, trained.gradient(p));
    ++compared;
  }
  EXPECT_GE(compared, 20);
  if (file.has("logits")) compare("logits", trained.logits(tokens, file.floats("logits").size()));
  std::cout << "[cuda] loss " << std::abs(loss - expected) / expected << ", worst " << worst << " (" << where
            << ")\n";
}

INSTANTIATE_TEST_SUITE_P(
    Family, GoldenOnGpu,
    ::testing::Values(GoldenCase{"sp1024_pr518", "sp1024_params", "leaky_square"},
                      GoldenCase{"sp1024_pr518", "sp1024_params", "leaky_square", 0, true},
                      GoldenCase{"sp1024_pr518_qat", "sp1024_params", "leaky_square", 31, true},
                      GoldenCase{"sp1024_pr417", "sp1024_params", "relu_square"},
                      GoldenCase{"sp1024_pr417", "sp1024_params", "relu_square", 0, true},
                      GoldenCase{"sp1024_pr518_long", "sp1024_params", "leaky_square", 0, true},
                      GoldenCase{"sp1024_plain_no_ve_no_xsa", "sp1024_plain_no_ve_no_xsa", "relu_square"},
                      GoldenCase{"sp1024_plain_no_ve_no_xsa", "sp1024_plain_no_ve_no_xsa", "relu_square", 0,
                                 true}),
    [](const auto& test) {
      const auto& c = test.param;
      return c.file + (c.q ? "_quantised" : "") + (c.passes ? "_passes" : "");
    });

class Train20OnGpu : public OnGpu {};

TEST_F(Train20OnGpu, LossesNormsParametersAndEma) {
  const auto config = golden_config(golden("sp1024_params"), "leaky_square");
  exec::Engine gpu(on(first_gpu));
  graph::ParameterStore host(model::make_layout(config), {}, false);
  load(host, golden("sp1024_params"));
  Trained trained(config, gpu, {.rows = 2, .passes = graph::all_passes()});
  exec::write_weights(trained.store, exec::read_weights(host));
  const auto& layout = trained.store.layout();
  const auto optimizer = optim::make_optimizer(
      optim::optimizer_config(train20_config(), pipeline::trained_parameters(layout), {.ema_decay = 0.9}),
      trained.store.flat_values(), trained.store.flat_gradients(), nullptr, gpu.cuda());
  const auto begin = [&] {
    trained.before->run();
    trained.store.zero_gradients();
  };
  const auto update = [&](int step) {
    trained.after->run();
    return optimizer->step(train20_values(step)).norm;
  };
  const auto average = [&] {
    std::vector<float> flat(static_cast<std::size_t>(layout.padded_elements()));
    optimizer->read_average(optim::Average::ema, flat);
    return flat;
  };
  expect_train20(layout, {.begin = begin,
                          .forward_backward = [&](auto... batch) { return trained.add(batch...); },
                          .update = update,
                          .weights = [&] { return exec::read_weights(trained.store); },
                          .average = average});
}

}  // namespace
}  // namespace fairway::testing
