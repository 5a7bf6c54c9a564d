// The family against values of the original implementations (tests/golden/README.md): loss, logits, every
// gradient.

#include <gtest/gtest.h>

#include "model/folded.h"

namespace fairway::testing {
namespace {

struct Case {
  std::string file, parameters, activation;
  int fake_quantize = 0;
  bool passes = false;  ///< all of them; of those, a CPU folds scales
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.file; }

class Golden : public ::testing::TestWithParam<Case> {
 protected:
  base::ThreadPool pool_{2};
};

template <class T>
void put(graph::Program& program, const char* name, const std::vector<T>& values) {
  std::copy(values.begin(), values.end(), program.view(name).template span<T>().begin());
}

TEST_P(Golden, LossAndGradients) {
  const auto& c = GetParam();
  const auto file = golden(c.file);
  const auto config = golden_config(file, c.activation);
  graph::ParameterStore store(model::make_layout(config), {}, true);
  load(store, golden(c.parameters));
  const auto rows = static_cast<int>(file.at("input_ids").shape[0]);
  model::BuildOptions options;
  options.rows = rows;
  if (c.passes) options.passes = graph::all_passes();
  graph::Plan plan(store, runtime_on(pool_));
  const FoldedProgram folded(plan, config, options, c.fake_quantize);
  auto& program = *folded.program;
  EXPECT_EQ(program.graph().folds.size(), c.passes ? 2 * static_cast<std::size_t>(config.layers) : 0);
  plan.allocate();
  put(program, "tokens", file.at("input_ids").as<std::int32_t>());
  put(program, "targets", file.at("target_ids").as<std::int32_t>());
  auto weights = program.view("weights").span<float>();
  std::fill(weights.begin(), weights.end(), 1.0f / static_cast<float>(weights.size()));
  folded.run();

  const auto loss = file.floats("loss")[0];
  EXPECT_NEAR(program.view("loss").as<float>()[0], loss, 1e-5 * loss);
  int compared = 0;
  for (const auto& p : store.layout().parameters()) {
    if (!file.has("grad/" + p.name)) continue;
    EXPECT_LE(max_relative(store.gradient(p.name).span<float>(), file.floats("grad/" + p.name)), 1e-5)
        << p.name;
    ++compared;
  }
  EXPECT_GE(compared, 20);
}

class GoldenLogits : public Golden {};

TEST_P(GoldenLogits, Agree) {
  const auto& c = GetParam();
  const auto file = golden(c.file);
  const auto config = golden_config(file, c.activation);
  graph::ParameterStore store(model::make_layout(config), {}, false);
  load(store, golden(c.parameters));
  model::BuildOptions options;
  options.mode = model::Mode::logits;
  options.rows = static_cast<int>(file.at("input_ids").shape[0]);
  graph::Plan plan(store, runtime_on(pool_));
  const FoldedProgram folded(plan, config, options, c.fake_quantize);
  auto& program = *folded.program;
  plan.allocate();
  put(program, "tokens", file.at("input_ids").as<std::int32_t>());
  folded.run();
  EXPECT_LE(max_relative(program.view("logits").span<float>(), file.floats("logits")), 1e-5);
}

std::string case_name(const ::testing::TestParamInfo<Case>& test) {
  return test.param.file + (test.param.fake_quantize ? "_quantised" : "") +
         (test.param.passes ? "_passes" : "");
}

INSTANTIATE_TEST_SUITE_P(
    Family, Golden,
    ::testing::Values(Case{"sp1024_pr518", "sp1024_params", "leaky_square"},
                      Case{"sp1024_pr518", "sp1024_params", "leaky_square", 0, true},
                      Case{"sp1024_pr518_qat", "sp1024_params", "leaky_square", 31},
                      Case{"sp1024_pr518_qat", "sp1024_params", "leaky_square", 31, true},
                      Case{"sp1024_pr417", "sp1024_params", "relu_square"},
                      Case{"sp1024_pr417", "sp1024_params", "relu_square", 0, true},
                      Case{"sp1024_pr518_long", "sp1024_params", "leaky_square"},
                      Case{"sp1024_plain_no_ve_no_xsa", "sp1024_plain_no_ve_no_xsa", "relu_square"}),
    case_name);

// sp1024_pr518_long holds no logits.
INSTANTIATE_TEST_SUITE_P(Family, GoldenLogits,
                         ::testing::Values(Case{"sp1024_pr518", "sp1024_params", "leaky_square"},
                                           Case{"sp1024_pr518_qat", "sp1024_params", "leaky_square", 31},
                                           Case{"sp1024_pr417", "sp1024_params", "relu_square"},
                                           Case{"sp1024_plain_no_ve_no_xsa", "sp1024_plain_no_ve_no_xsa",
                                                "relu_square"}),
                         case_name);

}  // namespace
}  // namespace fairway::testing
