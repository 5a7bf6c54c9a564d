#include "fairway/pipeline/measure/explain.h"

#include "fairway/base/clock.h"
#include "fairway/model/family.h"
#include "fairway/pipeline/train/train_backend.h"
#include "fairway/pipeline/train/train_setup.h"
#include "train/train_cuda.h"

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

Explanation explain(const Recipe& recipe, bool measure, Engine& engine) {
  Explanation result;
  graph::ParameterStore store(model::make_layout(recipe.model), engine.device(), true);
  result.parameters = store.layout().count();
  const bool gpu = engine.device().is_cuda();
  result.micro_batch_rows = gpu ? device_micro_batch_rows(recipe, engine) : micro_batch_rows(recipe);
  if (gpu) store.add_working_copy(engine.activations(recipe.model));
  graph::Plan plan(store, engine.runtime(products(recipe)));

  std::vector<model::BuildOptions> builds(2, engine.build_options(recipe.model));
  builds[0].mode = model::Mode::train;
  builds[0].rows = result.micro_batch_rows;
  builds[0].z_loss = static_cast<float>(recipe.train.z_loss);
  builds[1].mode = model::Mode::score;
  if (recipe.model.memory_tokens > 0) builds[1].last = recipe.model.window - recipe.model.memory_tokens;
  builds[1].rows = std::max(1, (gpu ? 98'304 : 4096) / recipe.model.window);
  if (recipe.score.stride > 0) {
    builds.push_back(builds[1]);
    builds[2].last = std::min(recipe.score.stride, recipe.model.window);
  }
  std::vector<graph::Program*> programs;
  for (auto& build : builds) {
    base::Stopwatch watch;
    programs.push_back(&plan.add(model::build(recipe.model, store.layout(), build)));
    Explanation::Program p;
    p.name = programs.back()->name();
    p.build_seconds = watch.seconds();
    result.programs.push_back(std::move(p));
  }
  if (measure) {
    graph::ParameterStore host(store.layout(), {}, false);
    initial_weights(recipe, host, engine.pool());
    write_weights(store, read_weights(host));
    if (gpu)
      plan.add(model::build_refresh(recipe.model, store.layout(), engine.refresh_options(recipe.model)));
    plan.allocate();
    if (gpu) plan.program("refresh").run();
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
    for (const auto& step : p.steps) p.seconds += step.seconds;
    p.cost = programs[i]->cost();
    p.arena_bytes = programs[i]->memory().arena_bytes;
    p.live_peak_bytes = programs[i]->memory().live_peak_bytes;
    p.in_place = programs[i]->memory().in_place;
  }
  if (measure)
    result.order = price_of_order(
        *programs[0], [&] { fill_inputs(*programs[0]); }, 5, engine.cuda());
  result.memory = plan.memory_table();
  return result;
}

}  // namespace fairway::pipeline
