// Hessians of what matrices multiply, held against what is known of their inputs without looking inside.
#include "fairway/exec/calibration.h"

#include "exec/small.h"
#include "fairway/base/random.h"
#include "support/compare.h"

#include <gtest/gtest.h>

#include <cmath>

namespace fairway::exec {
namespace {

model::ModelConfig looped() {
  auto c = testing::small_config();
  c.bigram_rows = c.ve_dim = 0;
  c.ve_layers = {};
  c.loop_layers = {1};
  c.loop_runs = 3;
  c.bos_id = 0;
  return c;
}

class Calibration : public ::testing::Test {
 protected:
  Calibration() : engine_(testing::with_threads(2)), weights_(model::make_layout(config_), {}, false) {
    model::initialise(weights_, 3, engine_.pool());
    const base::Random noise(1, "noise");
    std::uint64_t i = 0;
    for (auto& v : weights_.flat_values().span<float>()) v += 0.1f * static_cast<float>(noise.normal(i++));
  }
  static void fill(int batch, std::span<std::int32_t> tokens) {
    const base::Random random(static_cast<std::uint64_t>(batch), "tokens");
    for (std::size_t i = 0; i < tokens.size(); ++i)
      tokens[i] = static_cast<std::int32_t>(random.below(i, 48));
  }
  Hessians collect(int batches) {
    ModelRunner runner(config_, weights_, engine_);
    return collect_hessians(runner, 2, batches, fill);
  }
  static double trace(const std::vector<float>& h) {
    const auto n = static_cast<std::size_t>(std::lround(std::sqrt(static_cast<double>(h.size()))));
    double sum = 0;
    for (std::size_t i = 0; i < n; ++i) sum += h[i * n + i];
    return sum;
  }

  const model::ModelConfig config_ = looped();
  Engine engine_;
  graph::ParameterStore weights_;
};

TEST_F(Calibration, NormedRowsHaveTheirLengthInEveryRun) {
  const auto hessians = collect(1);
  // Rows behind a norm have the mean square c^2 of their layer; one that runs three times has three inputs.
  const double rows = 2.0 * config_.window, width = config_.width;
  for (int l = 0; l < 3; ++l)
    for (const char* role : {"attn.c_q", "attn.c_k", "attn.c_v", "mlp.fc"}) {
      const double runs = l == 1 ? 3 : 1;
      EXPECT_NEAR(trace(hessians.at(fmt::format("blocks.{}.{}.weight", l, role))),
                  runs * rows * width / (l + 1), 0.01 * rows * width)
          << l << role;
    }
  EXPECT_NEAR(trace(hessians.at("tok_emb.weight")), rows * width, 1e-3 * rows * width);
  EXPECT_EQ(hessians.at("blocks.1.attn.c_q.weight"), hessians.at("blocks.1.attn.c_v.weight"));
  EXPECT_EQ(hessians.size(), 3u * 6 + 1);
  EXPECT_EQ(hessians.at("blocks.0.mlp.proj.weight").size(),
            static_cast<std::size_t>(config_.mlp_width()) * static_cast<std::size_t>(config_.mlp_width()));
}

TEST_F(Calibration, TheHeadsHessianGivesTheSquaresOfTheLogits) {
  const auto h = collect(1).at("tok_emb.weight");
  const auto e = weights_.value("tok_emb.weight").span<float>();
  const auto d = static_cast<std::size_t>(config_.width);
  double expected = 0;
  for (std::size_t v = 0; v < 48; ++v)
    for (std::size_t i = 0; i < d; ++i)
      for (std::size_t j = 0; j < d; ++j) expected += double{e[v * d + i]} * h[i * d + j] * e[v * d + j];
  ModelRunner runner(config_, weights_, engine_);
  auto& program = runner.add({.mode = model::Mode::logits, .rows = 2});
  runner.allocate();
  std::vector<std::int32_t> tokens(2 * 16);
  fill(0, tokens);
  runner.write_tokens(program, tokens);
  program.run();
  double squares = 0;
  for (const float capped : program.view("logits").span<float>()) {
    const double z = config_.softcap * std::atanh(double{capped} / config_.softcap);
    squares += z * z;
  }
  EXPECT_NEAR(expected, squares, 1e-3 * squares);
}

TEST_F(Calibration, IsTheMeanOverBatchesAndTheSameEachTime) {
  const auto first = collect(1), three = collect(3);
  EXPECT_EQ(collect(3), three);
  const auto& a = first.at("blocks.2.mlp.fc.weight");
  const auto& b = three.at("blocks.2.mlp.fc.weight");
  EXPECT_NE(a, b);
  EXPECT_NEAR(trace(b), trace(a), 0.01 * trace(a)) << "a mean, not a sum";
}

}  // namespace
}  // namespace fairway::exec
