#include "fairway/pipeline/measure/determinism_cost.h"

#include "fairway/ops/cuda.h"

#include <fmt/format.h>

#include <algorithm>

namespace fairway::pipeline {

namespace {

/// The kernel for bf16 takes turns; the plain one for f32 has each sum in one warp.
bool takes_turns(const graph::Graph& graph, std::size_t step) {
  const auto& s = graph.steps[step];
  return s.op->name() == "attention_backward" && graph.at(s.in[0]).meta.dtype == tensor::DType::bf16;
}

double median(std::vector<double> values) {
  std::ranges::sort(values);
  return values[values.size() / 2];
}

/// Back to fixed orders whatever happens.
class Nondeterministic {
 public:
  explicit Nondeterministic(ops::cuda::State& gpu) : gpu_(gpu) { gpu.set_deterministic(false); }
  ~Nondeterministic() { gpu_.set_deterministic(true); }
  Nondeterministic(const Nondeterministic&) = delete;
  Nondeterministic& operator=(const Nondeterministic&) = delete;

 private:
  ops::cuda::State& gpu_;
};

}  // namespace

std::optional<DeterminismCost> determinism_cost(graph::Program& program, const std::function<void()>& fill,
                                                int repeats, ops::cuda::State* gpu) {
  DeterminismCost price;
  for (std::size_t s = 0; s < program.graph().steps.size(); ++s)
    price.steps += takes_turns(program.graph(), s);
  if (!gpu || price.steps == 0) return {};
  std::vector<double> ordered, any, whole;
  const auto measure = [&](std::vector<double>& seconds) {
    fill();
    program.run_measured();
    const auto steps = program.steps();
    double turns = 0, all = 0;
    for (std::size_t s = 0; s < steps.size(); ++s) {
      all += steps[s].seconds;
      if (takes_turns(program.graph(), s)) turns += steps[s].seconds;
    }
    seconds.push_back(turns);
    return all;
  };
  for (int i = 0; i < std::max(1, repeats); ++i) {  // by turns: clocks drift
    {
      const Nondeterministic as_it_comes(*gpu);
      measure(any);
    }
    whole.push_back(measure(ordered));
  }
  price.ordered_seconds = median(ordered);
  price.any_order_seconds = median(any);
  price.program_seconds = median(whole);
  return price;
}

std::string to_text(const DeterminismCost& p) {
  return fmt::format(
      "determinism: attention backward ({} steps) {:.3f} ms in order, {:.3f} ms in any order: {:.3f} ms "
      "({:.1f} "
      "%) of a micro-step",
      p.steps, 1e3 * p.ordered_seconds, 1e3 * p.any_order_seconds, 1e3 * p.seconds(),
      100 * p.seconds() / p.program_seconds);
}

}  // namespace fairway::pipeline
