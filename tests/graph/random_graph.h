#pragma once
// Random computations over the operators that share memory, alias and split gradients, for property tests.

#include "fairway/base/thread_pool.h"
#include "fairway/graph/program.h"
#include "fairway/ops/activation.h"
#include "fairway/ops/cross_entropy.h"
#include "fairway/ops/matmul.h"
#include "fairway/ops/norm.h"
#include "fairway/ops/residual.h"

#include <cstring>
#include <random>
#include <set>
#include <string>
#include <vector>

namespace fairway::graph::testing {

constexpr std::int64_t batch = 2, length = 3, rows = batch * length, width = 8;
constexpr int matrices = 3, scales = 2;

/// Three square matrices packed as one, one on its own, per-channel scales, a mixing pair and a smear gate.
inline ParameterLayout random_layout() {
  ParameterLayout layout;
  const tensor::Shape square{width, width};
  layout.add({.name = "single", .shape = square});
  layout.add_packed("packed", {{.name = "part.0", .shape = square},
                               {.name = "part.1", .shape = square},
                               {.name = "part.2", .shape = square}});
  const auto vector = [&](std::string name, tensor::Shape shape) {
    layout.add({.name = std::move(name), .shape = shape, .group = Group::scalar});
  };
  for (int i = 0; i < scales; ++i) vector("scale." + std::to_string(i), {width});
  vector("scalar", {1});
  vector("mix", {2, width});
  vector("gamma", {width});
  layout.finish();
  return layout;
}

struct RandomOptions {
  std::set<std::string> frozen = {};
  bool backward = true;
  int steps = 14;
};

/// The same seed gives the same forward computation whatever the options.
class RandomGraph {
 public:
  RandomGraph(std::uint32_t seed, const ParameterLayout& layout, tensor::DType dtype, RandomOptions options)
      : random_(seed),
        options_(std::move(options)),
        b_("random", layout, dtype,
           [this](std::string_view name) { return !options_.frozen.count(std::string(name)); }) {}

  Graph make() {
    const auto dtype = b_.dtype();
    pool_.push_back(b_.input("x", {dtype, {rows, width}}));
    pool_.push_back(b_.input("y", {dtype, {rows, width}}));
    for (int i = 0; i < options_.steps; ++i) {
      b_.scope("step." + std::to_string(i));
      add_step();
    }
    // Everything made last counts, so that most of the graph stays alive.
    auto total = pool_.back();
    for (std::size_t i = pool_.size() - 3; i + 1 < pool_.size(); ++i)
      total = b_.op1<ops::Add>({total, pool_[i]});
    const auto weights = b_.input("weights", {dtype, {rows * width}});
    const auto loss = b_.op1<ops::WeightedSum>({b_.reshape(total, {rows * width}), weights});
    b_.output(loss, "loss");
    return b_.finish({}, options_.backward ? loss : absent);
  }

 private:
  int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
  ValueId any() {
    return pool_[pool_.size() - 1 -
                 static_cast<std::size_t>(below(std::min<int>(4, static_cast<int>(pool_.size()))))];
  }
  ValueId scale() {
    return below(3) ? b_.parameter("scale." + std::to_string(below(scales))) : b_.parameter("scalar");
  }
  ValueId channel_scale() { return b_.parameter("scale." + std::to_string(below(scales))); }

  ValueId matrix() {
    switch (below(3)) {
      case 0:
        return b_.parameter("single");
      case 1:
        return b_.parameter("part." + std::to_string(below(matrices)));
      default:
        break;
    }
    // Rows of the packed matrix that cross a part's border.
    for (const auto* part : {"part.0", "part.1", "part.2"})
      if (options_.frozen.count(part)) return b_.parameter("single");
    return b_.slice(b_.parameter("packed"), width * (1 + below(2 * width - 2)), {width, width});
  }

  void keep(ValueId v) { pool_.push_back(v); }

  void add_step() {
    const float eps = 1e-5f;
    // Drawn one after the other: the order in which arguments are evaluated is the compiler's.
    const auto a = any(), c = any();
    switch (below(9)) {
      case 0: {
        const auto squared = b_.op1<ops::LeakyReluSquared>({a}, 0.5f);
        keep(b_.op1<ops::RmsNorm>({squared}, 1.0f, eps));  // keeps values near 1
        break;
      }
      case 1:
        keep(b_.op1<ops::Add>({a, c}));
        break;
      case 2:
        keep(b_.op1<ops::Add>({a, a}));
        break;
      case 3:
        keep(b_.op1<ops::ScaledResidual>({a, c, scale()}));
        break;
      case 4: {
        const auto out = b_.op<ops::ResidualNorm>({a, c, channel_scale()}, 0.7f, eps);
        keep(out[0]);
        keep(out[1]);
        break;
      }
      case 5: {
        const auto mix = b_.parameter("mix");
        const bool skip = below(2) == 1;
        const auto from = skip ? any() : absent;
        const auto out = skip
                             ? b_.op<ops::MixNorm>({a, c, mix, from, channel_scale()}, 1.3f, eps, false, true)
                             : b_.op<ops::MixNorm>({a, c, mix}, 1.3f, eps);
        keep(out[0]);
        keep(out[1]);
        break;
      }
      case 6:
        keep(b_.linear(a, matrix()));
        break;
      case 7: {
        const auto up = matrix(), down = matrix();
        const auto active = b_.op1<ops::LeakyReluSquared>({b_.linear(a, up)}, 0.5f);
        const auto sum = b_.op1<ops::LinearAdd>({active, down, c});
        keep(b_.op1<ops::RmsNorm>({sum}, 1.0f, eps));
        break;
      }
      default: {
        const auto cube = b_.reshape(a, {batch, length, width});
        const auto smeared = b_.op1<ops::Smear>({cube, b_.parameter("gamma")});
        keep(b_.reshape(smeared, {rows, width}));
      }
    }
  }

  std::mt19937 random_;
  RandomOptions options_;
  Builder b_;
  std::vector<ValueId> pool_;
};

inline Graph random_graph(std::uint32_t seed, const ParameterLayout& layout, tensor::DType dtype,
                          RandomOptions options = {}) {
  return RandomGraph(seed, layout, dtype, std::move(options)).make();
}

/// Fills a view with values around zero that depend on the seed alone.
template <class T>
void fill_random(tensor::View view, std::uint32_t seed, double size = 1.0) {
  std::mt19937 random(seed);
  std::uniform_real_distribution<double> uniform(-size, size);
  for (auto& v : view.span<T>()) v = static_cast<T>(uniform(random));
}

template <class T>
void fill_inputs(Program& program, std::uint32_t seed) {
  std::uint32_t i = 0;
  for (const auto* name : {"x", "y", "weights"}) fill_random<T>(program.view(name), seed * 31 + i++);
}

inline std::vector<std::byte> bytes_of(tensor::View view) {
  const auto* data = static_cast<const std::byte*>(view.data);
  return {data, data + view.bytes()};
}

}  // namespace fairway::graph::testing
