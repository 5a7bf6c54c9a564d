#pragma once
// What a recipe's programs do, step by step.

#include "fairway/exec/engine.h"
#include "fairway/pipeline/measure/determinism_cost.h"
#include "fairway/pipeline/recipe/recipe.h"

#include <string>
#include <vector>

namespace fairway::pipeline {

struct Explanation {
  struct Program {
    std::string name;
    std::vector<graph::StepReport> steps;
    std::vector<graph::PassNote> passes;  ///< where each fired or why it did not
    ops::Cost cost;
    std::size_t arena_bytes = 0, live_peak_bytes = 0;
    int in_place = 0;
    double build_seconds = 0;
    double seconds = 0;  ///< one measured run; 0 when not measured
  };
  std::int64_t parameters = 0;
  int micro_batch_rows = 0;
  std::vector<Program> programs;  ///< train, plain score, sliding score
  std::vector<graph::MemoryLine> memory;
  std::optional<DeterminismCost> order;  ///< of the train program, measured; nothing on a CPU
};

/// Builds every program of the recipe; with `measure` also runs each twice and times the second run, and on a
/// GPU finds what fixed orders of sums cost.
Explanation explain(const Recipe& recipe, bool measure, const exec::Engine& engine);

}  // namespace fairway::pipeline
