#pragma once
// How fast a recipe trains here, and where the time goes: the training program step by step beside what the
// machine can do, the whole step as the trainer runs it.

#include "fairway/exec/device_rates.h"
#include "fairway/exec/engine.h"
#include "fairway/pipeline/measure/determinism_cost.h"
#include "fairway/pipeline/recipe/recipe.h"

#include <string>
#include <vector>

namespace fairway::pipeline {

/// Steps of one kind and shape (StepKind).
struct BenchLine {
  std::string op, shapes;  ///< shapes: of the inputs
  bool backward = false;
  int count = 0;
  ops::Cost cost;      ///< of all
  double seconds = 0;  ///< of all, medians
  double floor_seconds = 0;
};

struct BenchReport {
  std::string device;
  int micro_batch_rows = 0;
  std::int64_t micro_batch_tokens = 0, step_tokens = 0;
  exec::DeviceRates machine;
  std::vector<BenchLine> lines;  ///< longest first
  ops::Cost micro_cost;
  double micro_floor_seconds = 0;
  double micro_steps_seconds = 0;         ///< the lines' sum
  double step_seconds = 0;                ///< a whole training step, median: micro-batches and update
  double micro_seconds = 0;               ///< its part of one micro-batch
  double update_seconds = 0;              ///< the rest: compute weights, clip, optimisers, averages
  double roofline_seconds = 0;            ///< of a whole step, at best; 0 on a CPU
  double start_seconds = 0;               ///< from nothing to the first step done, data not counted
  double loss = 0;                        ///< of the last step
  std::optional<DeterminismCost> order;   ///< what fixed orders of sums cost; nothing on a CPU
  std::vector<graph::MemoryLine> memory;  ///< as planned
  std::uint64_t device_bytes = 0;         ///< on a GPU: what is gone after the steps, libraries' share too
};

/// Trains on random tokens. `repeats`: runs of each measurement.
BenchReport bench(const Recipe& recipe, int repeats, exec::Engine& engine);

}  // namespace fairway::pipeline
