#include "fairway/pipeline/measure/bench.h"

#include "fairway/base/clock.h"
#include "fairway/base/random.h"
#include "fairway/model/family.h"
#include "fairway/pipeline/measure/step_kinds.h"
#include "fairway/pipeline/train/train_backend.h"
#include "fairway/pipeline/train/train_setup.h"
#include "fairway/tensor/cuda.h"

#include <algorithm>

namespace fairway::pipeline {

namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// Tokens as frequent as those of text: their gradients collide as much.
std::vector<std::uint16_t> random_tokens(std::int64_t count, int vocab) {
  const base::Random random(1, "bench tokens");
  std::vector<std::uint16_t> tokens(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const double u = random.uniform(i);
    tokens[i] = static_cast<std::uint16_t>(std::min(vocab - 1, static_cast<int>(vocab * u * u * u)));
  }
  return tokens;
}

std::vector<BenchLine> by_kind(const std::vector<graph::StepReport>& steps, const MachineRates& machine) {
  std::vector<BenchLine> lines;
  for (auto& kind : step_kinds(steps)) {
    BenchLine line{
        kind.op, kind.inputs, kind.backward, static_cast<int>(kind.steps.size()), kind.cost, kind.seconds, 0};
    for (const auto step : kind.steps) line.floor_seconds += machine.floor(steps[step].cost);
    lines.push_back(std::move(line));
  }
  std::ranges::stable_sort(lines, std::greater{}, &BenchLine::seconds);
  return lines;
}

/// The training program alone, step by step.
void measure_program(const Recipe& r, int repeats, Engine& engine, BenchReport& report) {
  graph::ParameterStore store(model::make_layout(r.model), engine.device(), true);
  if (engine.device().is_cuda()) store.add_working_copy(engine.activations(r.model));
  graph::Plan plan(store, engine.runtime(products(r)));
  auto build = engine.build_options(r.model);
  build.rows = report.micro_batch_rows;
  build.z_loss = static_cast<float>(r.train.z_loss);
  auto& program = plan.add(model::build(r.model, store.layout(), build));
  if (store.has_working_copy())
    plan.add(model::build_refresh(r.model, store.layout(), engine.refresh_options(r.model)));
  graph::ParameterStore host(store.layout(), {}, false);
  initial_weights(r, host, engine.pool());
  write_weights(store, read_weights(host));
  plan.allocate();
  if (store.has_working_copy()) plan.program("refresh").run();
  const auto tokens = random_tokens(report.micro_batch_tokens, r.model.vocab_size);
  const std::vector<std::int32_t> ids(tokens.begin(), tokens.end());
  const auto fill = [&] {
    program.write<std::int32_t>("tokens", ids);
    program.write<std::int32_t>("targets", ids);
    program.fill("weights", 1.0f / static_cast<float>(report.step_tokens));
  };
  std::vector<std::vector<double>> seconds;
  auto steps = program.steps();
  for (int i = 0; i < repeats + 1; ++i) {  // the first loads kernels and chooses algorithms
    fill();
    program.run_measured();
    const auto now = program.steps();
    seconds.resize(now.size());
    for (std::size_t s = 0; i > 0 && s < now.size(); ++s) seconds[s].push_back(now[s].seconds);
  }
  for (std::size_t s = 0; s < steps.size(); ++s) {
    steps[s].seconds = median(seconds[s]);
    report.micro_steps_seconds += steps[s].seconds;
    report.micro_floor_seconds += report.machine.floor(steps[s].cost);
  }
  report.micro_cost = program.cost();
  report.lines = by_kind(steps, report.machine);
  report.order = price_of_order(program, fill, repeats, engine.cuda());
}

/// Median of the time between steps, the queue kept as full as the trainer keeps it.
double step_seconds(TrainBackend& backend, data::BatchLoader& loader, int repeats, double& loss) {
  std::vector<double> times;
  StepPlan plan;
  plan.average = AverageAction::add;
  int in_flight = 0;
  base::Stopwatch watch;
  double before = 0;
  for (int i = 0; i < repeats + 2; ++i) {
    plan.progress.step = i;
    loader.next_step();
    backend.submit(loader, plan);
    if (++in_flight <= backend.depth()) continue;
    loss = backend.collect().loss;
    --in_flight;
    const double now = watch.seconds();
    if (i >= 2) times.push_back(now - before);
    before = now;
  }
  for (; in_flight > 0; --in_flight) loss = backend.collect().loss;
  return median(times);
}

/// 0 on the CPU.
std::uint64_t free_device_bytes(const Engine& engine) {
  return engine.device().is_cuda() ? tensor::cuda_device(engine.device()).free_bytes : 0;
}

}  // namespace

BenchReport bench(const Recipe& recipe, int repeats, Engine& engine) {
  if (repeats < 1) base::fail_input("--repeats {}: must be positive", repeats);
  BenchReport report;
  report.device = engine.device().is_cuda() ? tensor::cuda_device(engine.device()).name : base::cpu_model();
  report.step_tokens = recipe.train.batch_tokens;
  report.machine = measure_machine(engine.activations(recipe.model), engine);
  const auto stream = data::TokenStream::from_tokens(
      random_tokens(std::max<std::int64_t>(1 << 20, 2 * recipe.train.batch_tokens), recipe.model.vocab_size));
  data::BatchLoader loader(stream, {recipe.train.batch_tokens, recipe.model.window, recipe.data.slices});
  double without_update = 0;
  const auto free_before = free_device_bytes(engine);
  {
    base::Stopwatch start;
    const auto backend = make_train_backend(recipe, engine);
    loader.next_step();
    backend->submit(loader, {});
    backend->collect();
    report.start_seconds = start.seconds();
    report.micro_batch_rows = backend->micro_batch_rows();
    report.memory = backend->memory_table();
    report.roofline_seconds = backend->roofline_seconds();
    report.step_seconds = step_seconds(*backend, loader, repeats, report.loss);
    report.device_bytes = free_before - std::min(free_before, free_device_bytes(engine));
    report.update_seconds = backend->measure_update(std::max(3, repeats));
    without_update = report.step_seconds - report.update_seconds;
  }
  report.micro_batch_tokens = std::int64_t{report.micro_batch_rows} * recipe.model.window;
  report.micro_seconds = without_update * static_cast<double>(report.micro_batch_tokens) /
                         static_cast<double>(report.step_tokens);
  measure_program(recipe, std::max(3, repeats), engine, report);
  return report;
}

}  // namespace fairway::pipeline
