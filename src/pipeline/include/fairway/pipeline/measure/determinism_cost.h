#pragma once
// What it costs that results are the same bytes in every run. On a GPU one kernel pays for it: the backward
// pass of attention adds its shares of dQ in turns.

#include "fairway/graph/program.h"

#include <functional>
#include <optional>
#include <string>

namespace fairway::pipeline {

struct DeterminismCost {
  int steps = 0;  ///< whose sums take turns
  /// Of all of them in a run of the program, medians: as they always run, and adding as it comes.
  double ordered_seconds = 0, any_order_seconds = 0;
  double program_seconds = 0;  ///< of all steps, in order
  double seconds() const { return ordered_seconds - any_order_seconds; }
};

/// Runs the program both ways, `repeats` times each; `fill` sets its inputs before each run. States and
/// gradients change as by that many runs. Nothing where no step has such a choice.
std::optional<DeterminismCost> determinism_cost(graph::Program& program, const std::function<void()>& fill,
                                                int repeats, ops::cuda::State* gpu);

/// One line: "determinism: attention backward (11 steps) A ms in order, B ms in any order: C ms (P %) of a
/// micro-step".
std::string to_text(const DeterminismCost& price);

}  // namespace fairway::pipeline
