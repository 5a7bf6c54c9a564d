// The family against values of the original implementations (tests/golden/README.md): loss, logits, every
// gradient.

#include <gtest/gtest.h>

#include "model/support.h"

namespace fairway::testing {
namespace {

struct Case {
  std::string file, parameters, activation;
  int fake_quantize = 0;
  bool recompute = false, fold = false, fuse = false;
};

void PrintTo(const Case& c, std::ostream* out) { *out << c.file; }

model::RefreshOptions refresh_options(const Case& c) {
  model::RefreshOptions options;
  options.fold_scales = c.fold;
  if (c.fake_quantize) options.quantize = [q = c.fake_quantize](std::string_view) { return q; };
  return options;
}
std::string refresh_name(const Case& c) { return c.fake_quantize ? "refresh-quantised" : "refresh"; }

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
  options.recompute = c.recompute;
  options.fold_scales = c.fold;
  if (c.fuse) options.fuse = model::Fusion::all();
  graph::Plan plan(store, runtime_on(pool_));
  const auto refresh = refresh_options(c);
  if (c.fake_quantize || c.fold) {
    store.add_working_copy(tensor::DType::f32);
    plan.add(model::build_refresh(config, store.layout(), refresh));
  }
  auto* unfold = c.fold ? &plan.add(model::build_unfold(config, store.layout(), refresh)) : nullptr;
  auto& program = plan.add(model::build(config, store.layout(), options));
  plan.allocate();
  put(program, "tokens", file.at("input_ids").as<std::int32_t>());
  put(program, "targets", file.at("target_ids").as<std::int32_t>());
  auto weights = program.view("weights").span<float>();
  std::fill(weights.begin(), weights.end(), 1.0f / static_cast<float>(weights.size()));
  if (store.has_working_copy()) plan.program(refresh_name(c)).run();
  program.run();
  if (unfold) unfold->run();

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
  if (c.fake_quantize) {
    store.add_working_copy(tensor::DType::f32);
    plan.add(model::build_refresh(config, store.layout(), refresh_options(c)));
  }
  auto& program = plan.add(model::build(config, store.layout(), options));
  plan.allocate();
  put(program, "tokens", file.at("input_ids").as<std::int32_t>());
  if (store.has_working_copy()) plan.program(refresh_name(c)).run();
  program.run();
  EXPECT_LE(max_relative(program.view("logits").span<float>(), file.floats("logits")), 1e-5);
}

std::string case_name(const ::testing::TestParamInfo<Case>& test) {
  return test.param.file + (test.param.fake_quantize ? "_quantised" : "") +
         (test.param.recompute ? "_recompute" : "") + (test.param.fold ? "_folded" : "") +
         (test.param.fuse ? "_fused" : "");
}

INSTANTIATE_TEST_SUITE_P(
    Family, Golden,
    ::testing::Values(Case{"sp1024_pr518", "sp1024_params", "leaky_square"},
                      Case{"sp1024_pr518", "sp1024_params", "leaky_square", 0, true},
                      Case{"sp1024_pr518", "sp1024_params", "leaky_square", 0, false, true},
                      Case{"sp1024_pr518", "sp1024_params", "leaky_square", 0, false, true, true},
                      Case{"sp1024_pr518_qat", "sp1024_params", "leaky_square", 31, true, true, true},
                      Case{"sp1024_pr417", "sp1024_params", "relu_square", 0, false, true, true},
                      Case{"sp1024_pr518_qat", "sp1024_params", "leaky_square", 31},
                      Case{"sp1024_pr518_qat", "sp1024_params", "leaky_square", 31, false, true},
                      Case{"sp1024_pr417", "sp1024_params", "relu_square"},
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
