#pragma once
// The steps of a program by kind: what costs the same is one line.

#include "fairway/graph/program.h"

#include <string>
#include <vector>

namespace fairway::pipeline {

/// Steps of one operator over the same shapes. Constants that change no work (a norm's scale and epsilon, a
/// slope, a cap) may differ from step to step and are not part of the name.
struct StepKind {
  std::string op;      ///< with its attributes, but for constants: "mix_norm skip"
  std::string inputs;  ///< shapes
  bool backward = false;
  std::vector<std::size_t> steps;  ///< which of the list
  ops::Cost cost;                  ///< of all
  double seconds = 0;              ///< of all
};

/// In the order of their first steps.
std::vector<StepKind> step_kinds(const std::vector<graph::StepReport>& steps);

}  // namespace fairway::pipeline
