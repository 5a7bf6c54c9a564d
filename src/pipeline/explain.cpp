#include "fairway/pipeline/explain.h"

#include "fairway/base/clock.h"
#include "fairway/model/family.h"
#include "fairway/pipeline/trainer.h"

#include <algorithm>

namespace fairway::pipeline {

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
      // Token 0 everywhere costs what any text costs: no step's work depends on the values.
      for (const auto* name : {"tokens", "targets"})
        std::ranges::fill(programs[i]->view(name).span<std::int32_t>(), 0);
      if (i == 0) std::ranges::fill(programs[i]->view("weights").span<float>(), 1e-4f);
      programs[i]->run();
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
