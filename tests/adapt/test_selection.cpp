// What each published protocol trains, in full size, and that frozen means no work.
#include "adapt/small.h"
#include "fairway/adapt/adapted_model.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>

namespace fairway::adapt {
namespace {

using testing::engine;
using testing::small_config;
using testing::small_weights;

Selection select_named(std::vector<std::string> names, const model::ModelConfig& config,
                       std::vector<std::string> groups = {}, const optim::UpdateRule& rule = {}) {
  Phase phase;
  phase.rule = rule;
  phase.train = std::move(names);
  phase.lr_groups = std::move(groups);
  return select(phase, model::make_layout(config), config, tensor::DType::bf16);
}

TEST(Selection, PublishedCounts) {
  const model::ModelConfig full;  // PR 518
  EXPECT_EQ(select_named({"all"}, full).elements, 26'993'756);
  EXPECT_EQ(select_named({"scales"}, full).elements, 22'528);
  EXPECT_EQ(select_named({"last:3", "scales", "tok_emb.weight"}, full).elements, 7'624'728);
  auto small = full;  // PR 398: no value embedding
  small.ve_dim = 0;
  small.ve_layers = {};
  EXPECT_EQ(select_named({"all"}, small).elements, 26'829'913);
}

TEST(Selection, RangesCoverTheChosenParametersWithTheirRates) {
  const auto config = small_config();
  const auto layout = model::make_layout(config);
  const auto s = select_named({"all"}, config, {"*.mlp.proj.weight=3", "*.mlp.fc.weight=0.5"});
  for (const auto& p : layout.parameters()) {
    int covered = 0;
    for (const auto& group : s.groups)
      for (const auto& r : group.parameters) {
        if (!r.range.contains(p.offset)) continue;
        ++covered;
        EXPECT_LE(p.offset + p.elements(), r.range.end) << p.name;
        EXPECT_EQ(r.lr_factor, p.name.ends_with("mlp.proj.weight") ? 3.0
                               : p.name.ends_with("mlp.fc.weight") ? 0.5
                                                                   : 1.0);
        EXPECT_EQ(group.storage == tensor::DType::bf16, p.group == graph::Group::embedding) << p.name;
      }
    EXPECT_EQ(covered, 1) << p.name;
  }
  // What is not chosen lies in no range.
  const auto scales = select_named({"scales"}, config);
  for (const auto& p : layout.parameters())
    for (const auto& group : scales.groups)
      for (const auto& r : group.parameters)
        EXPECT_TRUE(scales.contains(p.name) || p.offset + p.elements() <= r.range.begin ||
                    p.offset >= r.range.end)
            << p.name;
}

TEST(Selection, MistakesAreInputErrors) {
  auto error = [](std::vector<std::string> names, std::vector<std::string> groups = {}) -> std::string {
    try {
      select_named(std::move(names), small_config(), std::move(groups));
    } catch (const base::Error& e) {
      return e.kind() == base::ErrorKind::input ? e.what() : "(not an input error)";
    }
    return "";
  };
  EXPECT_THAT(error({"blocks.9.*"}), ::testing::HasSubstr("'blocks.9.*' fits no parameter"));
  EXPECT_THAT(error({"last:4"}), ::testing::HasSubstr("last:1 to last:3"));
  EXPECT_THAT(error({"last:x"}), ::testing::HasSubstr("last:1 to last:3"));
  EXPECT_THAT(error({}), ::testing::HasSubstr("adapt.train = []"));
  EXPECT_THAT(error({"*.c_q.weight"}), ::testing::HasSubstr("one matrix"));
  EXPECT_THAT(error({"all"}, {"x=2"}), ::testing::HasSubstr("'x' fits no parameter"));
  EXPECT_THAT(error({"all"}, {"*mlp*"}), ::testing::HasSubstr("PATTERN=FACTOR"));
  EXPECT_THAT(error({"all"}, {"*=two"}), ::testing::HasSubstr("PATTERN=FACTOR"));
}

TEST(AdaptedModel, FrozenMeansNoWork) {
  const auto config = small_config();
  AdaptedModelOptions options;
  options.phases = {select_named({"last:1"}, config), select_named({"all"}, config)};
  options.score_lengths = {config.window};
  AdaptedModel model(config, small_weights(config), engine(), options);
  auto backward_in = [&](int phase, const std::string& scope) {
    int n = 0;
    for (const auto& step : model.training_program(phase).steps())
      n += step.is_backward && step.scope.starts_with(scope) ? 1 : 0;
    return n;
  };
  for (const char* scope : {"input", "value_embedding", "blocks.0", "blocks.1"}) {
    EXPECT_EQ(backward_in(0, scope), 0) << scope;
    EXPECT_GT(backward_in(1, scope), 0) << scope;
  }
  EXPECT_GT(backward_in(0, "blocks.2"), 0);
}

TEST(AdaptedModel, WeightsComeBackToTheBit) {
  const auto config = small_config();
  const auto weights = small_weights(config);
  const auto bytes = [](const graph::ParameterStore& s) {
    const auto v = s.flat_values();
    return std::string(static_cast<const char*>(v.data), v.bytes());
  };
  AdaptedModelOptions options;
  options.phases = {select_named({"all"}, config)};
  options.fake_quantize = true;
  AdaptedModel model(config, weights, engine(), options);
  exec::Snapshot base, moved;
  model.runner().save(base);
  const auto tokens = testing::small_text(17);
  score::ScoreLedger ledger({.targets = 16, .text = {{{0, 1000}}}});
  score::TextGate gate(std::span<const std::int32_t>(tokens), ledger);
  score::SeenTargets seen;
  const WeightedWindow lesson{gate.unscored(0, 16, seen), 1.0};
  const auto optimizer = model.make_optimizer(0);
  dist::SingleRank ranks;
  auto step = [&] {
    model.step(0, std::span(&lesson, 1), *optimizer, 1e-3, ranks);
    EXPECT_EQ(model.queued(), 1);
    EXPECT_TRUE(model.collect().gradient.finite);
  };
  step();
  model.runner().save(moved);
  const auto after = bytes(model.runner().weights());
  EXPECT_NE(after, bytes(weights));
  model.runner().load(base);
  EXPECT_EQ(bytes(model.runner().weights()),
            bytes(weights));  // the master weights are not the quantised ones
  optimizer->enqueue_reset();
  step();
  EXPECT_EQ(bytes(model.runner().weights()), after) << "the optimiser was not as new";
}

TEST(AdaptedModel, ForecastsChangeNoWeight) {
  const auto config = small_config();
  const auto weights = small_weights(config);
  for (const auto kind : {optim::RuleKind::sgd, optim::RuleKind::adam, optim::RuleKind::adamw}) {
    AdaptedModelOptions options;
    options.phases = {select_named({"all"}, config, {}, {.kind = kind, .weight_decay = 0.1})};
    options.train_windows = options.score_windows = 3;
    options.score_lengths = {4};
    options.fake_quantize = true;
    AdaptedModel model(config, weights, engine(), options);
    EXPECT_GT(model.forecast_batches(0, 10), 0);
    double gradient = 0;
    const auto parts = model.gradients(0);
    for (const float g : parts[0]) gradient += std::abs(static_cast<double>(g));
    EXPECT_GT(gradient, 0) << "batches of zeros are no measure";
    EXPECT_GT(model.forecast_updates(0, 10), 0);
    EXPECT_GT(model.forecast_scoring(4, 10), 0);
    const auto after = model.runner().weights().flat_values().span<const float>();
    EXPECT_TRUE(std::ranges::equal(after, weights.flat_values().span<const float>()));
  }
}

/// What a GPU's programs do to be fast changes no gradient that a phase trains, whatever else it freezes.
TEST(AdaptedModel, FoldedScalesGiveTheSameGradients) {
  const auto config = small_config();
  const auto weights = small_weights(config);
  dist::SingleRank ranks;
  constexpr int windows = 300;  // more than a batch holds
  const auto tokens = testing::small_text(windows * 16 + 1);
  score::ScoreLedger ledger({.targets = windows * 16, .text = {{{0, 1000000}}}});
  score::TextGate gate(std::span<const std::int32_t>(tokens), ledger);
  score::SeenTargets seen;
  std::vector<WeightedWindow> lessons;
  for (std::int64_t w = 0; w < windows; ++w)
    lessons.push_back({gate.unscored(w * 16, 16, seen), 1.0 / windows});
  for (const bool quantised : {false, true}) {
    AdaptedModelOptions options;
    options.train_windows = windows;
    options.phases = {select_named({"all"}, config), select_named({"scales"}, config),
                      select_named({"last:1", "scales", "tok_emb.weight"}, config),
                      select_named({"matrices"}, config)};
    options.fake_quantize = quantised;
    AdaptedModel plain(config, weights, engine(), options);
    options.form = exec::Form{tensor::DType::f32, graph::all_passes()};
    AdaptedModel folded(config, weights, engine(), options);
    for (int phase = 0; phase < 4; ++phase) {
      const auto loss = [&](AdaptedModel& model) {  // of a step that moves nothing
        const auto optimizer = model.make_optimizer(phase);
        model.step(phase, lessons, *optimizer, 0, ranks);
        return model.collect().loss;
      };
      EXPECT_NEAR(loss(plain), loss(folded), 1e-5);
      const auto want = plain.gradients(phase), got = folded.gradients(phase);
      double difference = 0, norm = 0;
      for (std::size_t r = 0; r < want.size(); ++r)
        for (std::size_t i = 0; i < want[r].size(); ++i) {
          difference += std::pow(static_cast<double>(want[r][i] - got[r][i]), 2);
          norm += std::pow(static_cast<double>(want[r][i]), 2);
        }
      EXPECT_GT(norm, 0);
      EXPECT_LT(std::sqrt(difference), 2e-5 * std::sqrt(norm)) << "phase " << phase << " " << quantised;
    }
  }
}

}  // namespace
}  // namespace fairway::adapt
