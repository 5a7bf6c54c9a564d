#include "fairway/pipeline/measure/explain.h"

#include "fairway/base/clock.h"
#include "fairway/exec/window_programs.h"
#include "fairway/pipeline/train/train_setup.h"
#include "fairway/pipeline/train/training_model.h"

#include <algorithm>

namespace fairway::pipeline {

namespace {

/// Token 0 everywhere costs what any text costs: no step's work depends on the values.
void fill_inputs(graph::Program& program) {
  for (const auto& v : program.graph().values) {
    if (v.kind != graph::BufferKind::input || v.root != program.graph().find(v.name)) continue;
    if (v.meta.dtype == tensor::DType::i32)
      program.fill(v.name, 0);
    else
      program.fill(v.name, 1e-4f);
  }
}

}  // namespace

Explanation explain(const Recipe& recipe, bool measure, const exec::Engine& engine) {
  Explanation result;
  std::vector<graph::Program*> programs;
  const auto note = [&](graph::Program& program, const base::Stopwatch& since) {
    programs.push_back(&program);
    result.programs.emplace_back();
    result.programs.back().name = program.name();
    result.programs.back().build_seconds = since.seconds();
  };
  base::Stopwatch watch;
  const auto model = make_training_model(recipe, engine);
  auto& runner = *model.runner;
  result.parameters = runner.weights().layout().count();
  result.micro_batch_rows = model.rows;
  note(*model.program, watch);
  exec::WindowPrograms scorer(runner);
  const int scored = recipe.model.window - recipe.model.memory_tokens;
  std::vector<int> lengths = {scored};
  if (recipe.score.stride > 0) lengths.push_back(std::min(recipe.score.stride, scored));
  for (const int length : lengths) {
    watch.restart();
    note(scorer.add(length), watch);
  }
  if (measure) {
    initial_weights(recipe, runner.weights(), engine.pool());
    runner.allocate();
    runner.prepare();
  }
  for (std::size_t i = 0; i < programs.size(); ++i) {
    auto& p = result.programs[i];
    if (measure) {
      fill_inputs(*programs[i]);
      programs[i]->run();
      fill_inputs(*programs[i]);  // inputs hold for one run only
      programs[i]->run_measured();
    }
    p.steps = programs[i]->steps();
    p.passes = programs[i]->graph().notes;
    for (const auto& step : p.steps) p.seconds += step.seconds;
    p.cost = programs[i]->cost();
    p.arena_bytes = programs[i]->memory().arena_bytes;
    p.live_peak_bytes = programs[i]->memory().live_peak_bytes;
    p.in_place = programs[i]->memory().in_place;
  }
  if (measure)
    result.order = determinism_cost(
        *programs[0], [&] { fill_inputs(*programs[0]); }, 5, engine.cuda());
  result.memory = runner.memory_table();
  return result;
}

}  // namespace fairway::pipeline
