// The four published protocols against plain loops (docs/spec/ttt.md sections 3 to 6), with one virtual rank,
// few and the published eight.
#include "adapt/reference.h"

#include "support/compare.h"

#include <gtest/gtest.h>

#include <limits>
#include <numbers>
#include <numeric>

namespace fairway::adapt::testing {
namespace {

constexpr int S = 16;  // the small model's window
using Kind = ReferenceOptimizer::Kind;

/// Plain windows over the first targets / S windows.
std::vector<float> final_scores(Reference& model, const std::vector<std::int32_t>& tokens) {
  std::vector<float> nll;
  for (std::int64_t w = 0; (w + 1) * S < static_cast<std::int64_t>(tokens.size()); ++w)
    for (float x : model.score(tokens, w * S, S)) nll.push_back(x);
  return nll;
}

/// Adaptation moves scores by far more than rounding does.
void expect_same(const EvaluateResult& result, const std::vector<float>& expected,
                 const std::vector<std::int32_t>& tokens) {
  ASSERT_EQ(result.nll.size(), expected.size());
  Reference untouched(false);
  const auto before = final_scores(untouched, tokens);
  fairway::testing::Largest worst, moved;
  for (std::size_t i = 0; i < expected.size(); ++i) {
    if (std::isinf(expected[i])) {
      EXPECT_TRUE(std::isnan(result.nll[i])) << "target " << i << " should have no score";
      continue;
    }
    worst.see(std::abs(static_cast<double>(result.nll[i]) - expected[i]));
    moved.see(std::abs(static_cast<double>(expected[i]) - before[i]));
  }
  EXPECT_LT(worst.value(), 2e-4);
  EXPECT_GT(moved.value(), 0.05) << "nothing was adapted";
}

double cosine(double x) { return 0.5 * (1 + std::cos(std::numbers::pi * x)); }

class Protocols : public ::testing::TestWithParam<int> {};
INSTANTIATE_TEST_SUITE_P(VirtualRanks, Protocols, ::testing::Values(1, 2, 8));

TEST_P(Protocols, TwoPhases417) {
  const int R = GetParam(), batch = 2;
  const auto tokens = small_text(37 * S + 5);
  const std::int64_t n = (static_cast<std::int64_t>(tokens.size()) - 1) / S;
  const std::int64_t usable = n / (batch * R) * (batch * R);
  ASSERT_LT(usable, n) << "the dropped end should be tested too";
  Reference model(true);
  std::vector<std::string> scales, second;
  for (const auto& name : all_names(model)) {
    const bool scale =
        name.ends_with("attn_scale") || name.ends_with("mlp_scale") || name.ends_with("resid_mix");
    if (scale) scales.push_back(name);
    if (scale || name.starts_with("blocks.2.") || name == "tok_emb.weight") second.push_back(name);
  }
  auto phase = [&](int number, ReferenceOptimizer optimizer, double lr0, int epochs) {
    for (int e = 0; e < epochs; ++e) {
      std::vector<std::int64_t> order(static_cast<std::size_t>(usable));
      std::iota(order.begin(), order.end(), 0);
      const base::Random random(1337, fmt::format("adapt/order/{}/{}", number, e));
      for (auto i = order.size(); i > 1; --i) std::swap(order[i - 1], order[random.below(i, i)]);
      for (std::int64_t b = 0; b < usable / (batch * R); ++b) {
        Gradient gradient;
        for (int r = 0; r < R; ++r)
          for (int i = 0; i < batch; ++i)
            model.add_gradient(tokens, S * order[static_cast<std::size_t>(b * batch * R + r * batch + i)],
                               1.0f / static_cast<float>(batch * R), gradient);
        optimizer.step(model, gradient, lr0 * cosine(static_cast<double>(e) / epochs));
      }
    }
  };
  phase(0, {Kind::adam, scales, 0}, 0.01, 3);
  phase(1, {Kind::sgd, second, 0}, 0.05, 2);
  const auto result = evaluate_small(two_phase(R), tokens, small_options(0, score::Tail::published));
  expect_same(result, final_scores(model, tokens), tokens);
  EXPECT_EQ(result.training[0].steps, 3 * usable / (batch * R));
  EXPECT_EQ(result.training[1].windows, 2 * usable);
}

TEST_P(Protocols, FullSgd398) {
  const int R = GetParam(), batch = 3;
  const auto tokens = small_text(29 * S + 1);
  const std::int64_t n = 29;
  Reference model(false);
  ReferenceOptimizer optimizer(Kind::sgd, all_names(model), 1.0);
  for (int e = 0; e < 3; ++e) {
    for (std::int64_t b = 0;; ++b) {
      // Each rank's batch; ranks weigh equally, however short theirs is.
      std::vector<std::vector<std::int64_t>> batches;
      for (int r = 0; r < R; ++r) {
        const std::int64_t begin = n * r / R + b * batch, end = std::min(begin + batch, n * (r + 1) / R);
        std::vector<std::int64_t> windows;
        for (auto w = begin; w < end; ++w) windows.push_back(w);
        if (!windows.empty()) batches.push_back(windows);
      }
      if (batches.empty()) break;
      Gradient gradient;
      for (const auto& windows : batches)
        for (auto w : windows)
          model.add_gradient(tokens, w * S, 1.0f / static_cast<float>(windows.size() * batches.size()),
                             gradient);
      optimizer.step(model, gradient, 0.02);
    }
  }
  const auto result = evaluate_small(full_sgd(R), tokens, small_options(0, score::Tail::published));
  expect_same(result, final_scores(model, tokens), tokens);
}

TEST_P(Protocols, StreamingMinimum573) {
  const int R = GetParam();
  const auto tokens = small_text(30 * S + 3);
  const std::int64_t U = 30 * S, C = U / R;
  std::vector<std::int64_t> starts;  // within a shard
  for (std::int64_t at = 0; at < C - S; at += S) starts.push_back(at);
  ASSERT_GE(starts.size(), 3u);
  const auto n = static_cast<std::int64_t>(starts.size());
  std::vector<float> best(static_cast<std::size_t>(U), std::numeric_limits<float>::infinity());
  for (int r = 0; r < R; ++r)
    for (int k = 0; k < 3; ++k) {
      Reference model(true);  // fresh weights
      ReferenceOptimizer optimizer(Kind::adam, all_names(model), 1.0);
      for (std::int64_t b = 0; b < n; ++b) {
        const auto start = r * C + starts[static_cast<std::size_t>((n * k / 3 + b) % n)];
        const auto nll = model.score(tokens, start, S);
        for (int i = 0; i < S; ++i) {
          auto& x = best[static_cast<std::size_t>(start + i)];
          x = std::min(x, nll[static_cast<std::size_t>(i)]);
        }
        if (k == 0) continue;
        Gradient gradient;
        model.add_gradient(tokens, start, 1.0f, gradient);
        optimizer.step(model, gradient, 1e-3 * cosine(static_cast<double>(b) / static_cast<double>(n)));
      }
    }
  const auto result = evaluate_small(streaming_minimum(R), tokens, small_options(0, score::Tail::published));
  expect_same(result, best, tokens);
  EXPECT_EQ(result.missing, U - R * n * S);
}

TEST_P(Protocols, CosineAdamW518) {
  const int R = GetParam(), batch = 2;
  const auto tokens = small_text(43 * S + 3);
  const std::int64_t U = 43 * S, C = U / R;
  const std::int64_t scheduled = std::max<std::int64_t>(1, (C - S) / (batch * S));
  Reference model(true);
  ReferenceOptimizer optimizer(Kind::adam, all_names(model), 1.0);
  int s = 0, steps = 0;
  for (int e = 0; e < 3; ++e)
    for (std::int64_t at = 0; at < C - S; at += batch * S, ++s) {
      const auto windows = std::min<std::int64_t>(batch, (C - at) / S);
      Gradient gradient;
      for (int r = 0; r < R; ++r)
        for (std::int64_t w = 0; w < windows; ++w)
          model.add_gradient(tokens, r * C + at + w * S, 1.0f / static_cast<float>(R * windows), gradient);
      optimizer.step(model, gradient, 1e-3 * cosine(s / static_cast<double>(3 * scheduled)));
      ++steps;
    }
  const auto result = evaluate_small(cosine_adamw(R), tokens, small_options(0, score::Tail::published));
  expect_same(result, final_scores(model, tokens), tokens);
  EXPECT_EQ(result.training[0].steps, steps);
}

}  // namespace
}  // namespace fairway::adapt::testing
