#pragma once
// Test-time training written down plainly: one window at a time, optimisers element by element, the order of
// everything by hand. Shares with the library only the programs that run a window.

#include "adapt/small.h"

#include <algorithm>
#include <cmath>
#include <map>

namespace fairway::adapt::testing {

using Gradient = std::map<std::string, std::vector<float>>;

inline float r16(float x) { return tensor::round_to_bf16(x); }

class Reference {
 public:
  explicit Reference(bool fake_quantize)
      : config(small_config()),
        store(model::make_layout(config), {}, true),
        plan_(store, engine().runtime()),
        fake_quantize_(fake_quantize) {
    const auto fresh = small_weights(config);
    std::ranges::copy(fresh.flat_values().span<float>(), store.flat_values().span<float>().begin());
    model::BuildOptions train, score;
    score.mode = model::Mode::score;
    train_ = &plan_.add(model::build(config, store.layout(), train));
    score_ = &plan_.add(model::build(config, store.layout(), score));
    plan_.allocate();
  }

  /// nll of the window's targets.
  std::vector<float> score(const std::vector<std::int32_t>& tokens, std::int64_t first, int length) {
    fill(*score_, tokens, first, length);
    score_->run();
    const auto nll = score_->view("nll").span<float>();
    return {nll.begin(), nll.begin() + length};
  }

  /// Adds factor * gradient of the window's mean loss.
  void add_gradient(const std::vector<std::int32_t>& tokens, std::int64_t first, float factor, Gradient& to) {
    const auto flat = store.flat_values().span<float>();
    const std::vector<float> masters(flat.begin(), flat.end());
    if (fake_quantize_)
      for (const auto& p : store.layout().parameters())
        if (p.group == graph::Group::matrix) quantise(store.value(p.name).span<float>(), p.shape[1]);
    fill(*train_, tokens, first, config.window);
    std::ranges::fill(train_->view("weights").span<float>(), 1.0f / static_cast<float>(config.window));
    store.zero_gradients();
    train_->run();
    std::ranges::copy(masters, flat.begin());
    for (const auto& p : store.layout().parameters()) {
      auto& sum = to[p.name];
      sum.resize(static_cast<std::size_t>(p.elements()));
      const auto g = store.gradient(p.name).span<float>();
      for (std::size_t i = 0; i < sum.size(); ++i) sum[i] += factor * g[i];
    }
  }

  bool is_table(const std::string& name) const {
    return store.layout().find(name).group == graph::Group::embedding;
  }

  const model::ModelConfig config;
  graph::ParameterStore store;

 private:
  /// int6 by the row's maximum, at least 1 (docs/spec/training.md section 11).
  static void quantise(std::span<float> w, std::int64_t columns) {
    for (std::size_t row = 0; row < w.size(); row += static_cast<std::size_t>(columns)) {
      const auto part = w.subspan(row, static_cast<std::size_t>(columns));
      float largest = 0;
      for (float x : part) largest = std::max(largest, std::abs(x));
      const float scale = std::max(largest / 31.0f, 1.0f / 31.0f);
      for (float& x : part) x = scale * std::clamp(std::nearbyint(x / scale), -32.0f, 31.0f);
    }
  }
  void fill(graph::Program& program, const std::vector<std::int32_t>& tokens, std::int64_t first,
            int length) {
    auto in = program.view("tokens").span<std::int32_t>(), out = program.view("targets").span<std::int32_t>();
    std::ranges::fill(in, 0);
    std::ranges::fill(out, 0);
    for (int i = 0; i < length; ++i) {
      in[static_cast<std::size_t>(i)] = tokens[static_cast<std::size_t>(first + i)];
      out[static_cast<std::size_t>(i)] = tokens[static_cast<std::size_t>(first + i + 1)];
    }
  }

  graph::Plan plan_;
  graph::Program *train_ = nullptr, *score_ = nullptr;
  bool fake_quantize_;
};

/// What the optimisers remember of one parameter.
struct Moments {
  std::vector<float> m, v;
};

/// An optimiser over named parameters.
class ReferenceOptimizer {
 public:
  enum class Kind { adam, sgd };
  ReferenceOptimizer(Kind kind, std::vector<std::string> names, double clip)
      : kind_(kind), names_(std::move(names)), clip_(clip) {}

  void step(Reference& model, Gradient& gradient, double lr) {
    ++steps_;
    const auto scale = clip_factor(gradient);
    for (const auto& name : names_) {
      auto p = model.store.value(name).span<float>();
      auto& state = moments_[name];
      state.m.resize(p.size());
      state.v.resize(p.size());
      double rate = lr;
      if (kind_ == Kind::adam && name.ends_with(".mlp.proj.weight")) rate *= 3;
      if (kind_ == Kind::adam && name.ends_with(".mlp.fc.weight")) rate *= 0.5;
      for (std::size_t i = 0; i < p.size(); ++i) {
        const float g = gradient[name][i];
        float &m = state.m[i], &v = state.v[i];
        if (model.is_table(name))
          bf16(p[i], r16(r16(g) * scale), m, v, rate);
        else
          fp32(p[i], g * scale, m, v, rate);
      }
    }
  }

 private:
  float clip_factor(Gradient& gradient) const {
    if (clip_ == 0) return 1;
    double squares = 0;
    for (const auto& name : names_)
      for (float g : gradient[name]) squares += static_cast<double>(g) * g;
    return static_cast<float>(std::min(1.0, clip_ / (std::sqrt(squares) + 1e-6)));
  }
  void fp32(float& p, float g, float& m, float& v, double lr) const {
    if (kind_ == Kind::sgd) {
      v = 0.9f * v + g;
      p -= static_cast<float>(lr) * v;
      return;
    }
    m = 0.9f * m + 0.1f * g;
    v = 0.999f * v + 0.001f * g * g;
    const double mean = m / (1 - std::pow(0.9, steps_)), square = v / (1 - std::pow(0.999, steps_));
    p -= static_cast<float>(lr * mean / (std::sqrt(square) + 1e-8));
  }
  /// PyTorch's unfused optimisers: every result is a bf16 tensor.
  void bf16(float& p, float g, float& m, float& v, double lr) const {
    if (kind_ == Kind::sgd) {
      v = r16(r16(0.9f * v) + g);
      p = r16(p - static_cast<float>(lr) * v);
      return;
    }
    m = r16(m + 0.1f * (g - m));
    v = r16(0.999f * v);
    v = r16(v + 0.001f * g * g);
    float denominator = r16(std::sqrt(v));
    denominator = r16(denominator / static_cast<float>(std::sqrt(1 - std::pow(0.999, steps_))));
    denominator = r16(denominator + 1e-8f);
    p = r16(p - static_cast<float>(lr / (1 - std::pow(0.9, steps_))) * (m / denominator));
  }

  Kind kind_;
  std::vector<std::string> names_;
  double clip_;
  int steps_ = 0;
  std::map<std::string, Moments> moments_;
};

inline std::vector<std::string> all_names(const Reference& model) {
  std::vector<std::string> names;
  for (const auto& p : model.store.layout().parameters()) names.push_back(p.name);
  return names;
}

}  // namespace fairway::adapt::testing
