#include "fairway/pipeline/explain.h"

#include "fairway/base/clock.h"
#include "fairway/model/family.h"
#include "fairway/pipeline/trainer.h"

#include <algorithm>

namespace fairway::pipeline {

namespace {

/// Token 0 everywhere costs what any text costs: no step's work depends on the values.
void fill_inputs(graph::Program& program) {
  for (const auto& v : program.graph().values) {
    if (v.kind != graph::BufferKind::input || v.root != program.graph().find(v.name)) continue;
    const auto view = program.view(v.name);
    if (view.dtype() == tensor::DType::i32)
      std::ranges::fill(view.span<std::int32_t>(), 0);
    else
      std::ranges::fill(view.span<float>(), 1e-4f);
  }
}

}  // namespace

Explanation explain(const Recipe& recipe, bool measure, Engine& engine) {
  Explanation result;
  graph::ParameterStore store(model::make_layout(recipe.model), engine.device(), true);
  result.parameters = store.layout().count();
  result.micro_batch_rows = micro_batch_rows(recipe);
  const auto products = recipe.train.products == "bf16" ? ops::Products::bf16 : ops::Products::f32;
  graph::Plan plan(store, engine.runtime(products));

  std::vector<model::BuildOptions> builds(2);
  builds[0].mode = model::Mode::train;
  builds[0].rows = result.micro_batch_rows;
  builds[1].mode = model::Mode::score;
  builds[1].rows = std::max(1, 4096 / recipe.model.window);
  if (recipe.score.stride > 0) {
    builds.push_back(builds[1]);
    builds[2].last = std::min(recipe.score.stride, recipe.model.window);
  }
  std::vector<graph::Program*> programs;
  for (const auto& build : builds) {
    base::Stopwatch watch;
    programs.push_back(&plan.add(model::build(recipe.model, store.layout(), build)));
    Explanation::Program p;
    p.name = programs.back()->name();
    p.build_seconds = watch.seconds();
    result.programs.push_back(std::move(p));
  }
  if (measure) {
    model::initialise(store, recipe.model, static_cast<std::uint64_t>(recipe.seed), engine.pool());
    plan.allocate();
  }
  for (std::size_t i = 0; i < programs.size(); ++i) {
    auto& p = result.programs[i];
    if (measure) {
      fill_inputs(*programs[i]);
      programs[i]->run();
      fill_inputs(*programs[i]);  // inputs hold for one run only
      base::Stopwatch watch;
      programs[i]->run_measured();
      p.seconds = watch.seconds();
    }
    p.steps = programs[i]->steps();
    p.cost = programs[i]->cost();
    p.arena_bytes = programs[i]->memory().arena_bytes;
    p.live_peak_bytes = programs[i]->memory().live_peak_bytes;
    p.in_place = programs[i]->memory().in_place;
  }
  result.memory = plan.memory_table();
  return result;
}

}  // namespace fairway::pipeline
