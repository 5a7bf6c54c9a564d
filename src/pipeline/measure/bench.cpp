#include "fairway/pipeline/measure/bench.h"

#include "fairway/base/clock.h"
#include "fairway/base/random.h"
#include "fairway/pipeline/measure/step_kinds.h"
#include "fairway/pipeline/train/train_setup.h"
#include "fairway/tensor/cuda.h"
#include "train/model_backend.h"

#include <algorithm>

namespace fairway::pipeline {

namespace {

double median(std::vector<double> values) {
  const auto middle = values.begin() + static_cast<std::ptrdiff_t>(values.size() / 2);
  std::nth_element(values.begin(), middle, values.end());
  return *middle;
}

/// FineWeb's documents in tokens of 8,192 pieces.
constexpr double mean_document = 700;

/// Tokens as frequent as those of text, so that their gradients collide as much, in documents of random
/// lengths.
std::vector<std::uint16_t> random_tokens(std::int64_t count, const model::ModelConfig& model) {
  const base::Random random(1, "bench tokens"), begins(1, "bench documents");
  const int vocab = model.vocab_size, bos = model.documents ? model.bos_id : -1;
  std::vector<std::uint16_t> tokens(static_cast<std::size_t>(count));
  for (std::size_t i = 0; i < tokens.size(); ++i) {
    const double u = random.uniform(i);
    auto token = std::min(vocab - 1, static_cast<int>(vocab * u * u * u));
    if (token == bos) token = vocab - 1;
    if (bos >= 0 && begins.uniform(i) * mean_document < 1) token = bos;
    tokens[i] = static_cast<std::uint16_t>(token);
  }
  return tokens;
}

std::vector<BenchLine> by_kind(const std::vector<graph::StepReport>& steps, const exec::DeviceRates& rates) {
  std::vector<BenchLine> lines;
  for (auto& kind : step_kinds(steps)) {
    BenchLine line{
        kind.op, kind.inputs, kind.backward, static_cast<int>(kind.steps.size()), kind.cost, kind.seconds, 0};
    for (const auto step : kind.steps) line.floor_seconds += rates.roofline_seconds(steps[step].cost);
    lines.push_back(std::move(line));
  }
  std::ranges::stable_sort(lines, std::greater{}, &BenchLine::seconds);
  return lines;
}

/// The training program alone, step by step.
void measure_program(const TrainingModel& model, int repeats, const exec::Engine& engine,
                     BenchReport& report) {
  auto& program = *model.program;
  const auto tokens = random_tokens(report.micro_batch_tokens, model.runner->config());
  const std::vector<std::int32_t> ids(tokens.begin(), tokens.end());
  model.runner->prepare();
  const auto fill = [&] {
    model.runner->write_tokens(program, ids);
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
    report.micro_floor_seconds += report.machine.roofline_seconds(steps[s].cost);
  }
  report.micro_cost = program.cost();
  report.lines = by_kind(steps, report.machine);
  report.order = determinism_cost(program, fill, repeats, engine.cuda());
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
std::uint64_t free_device_bytes(const exec::Engine& engine) {
  return engine.device().is_cuda() ? tensor::cuda_device(engine.device()).free_bytes : 0;
}

}  // namespace

BenchReport bench(const Recipe& recipe, int repeats, exec::Engine& engine) {
  if (repeats < 1) base::fail_input("--repeats {}: must be positive", repeats);
  BenchReport report;
  report.device = engine.device().is_cuda() ? tensor::cuda_device(engine.device()).name : base::cpu_model();
  report.step_tokens = recipe.train.batch_tokens;
  report.machine = exec::measure_rates(exec::Form::on(engine, recipe.model).dtype, engine);
  const auto stream = data::TokenStream::from_tokens(
      random_tokens(std::max<std::int64_t>(1 << 20, 2 * recipe.train.batch_tokens), recipe.model));
  data::BatchLoader loader(stream, batch_shape(recipe));
  const auto free_before = free_device_bytes(engine);
  base::Stopwatch start;
  ModelBackend backend(recipe, engine);
  loader.next_step();
  backend.submit(loader, {});
  report.roofline_seconds = backend.collect().roofline_seconds;
  report.start_seconds = start.seconds();
  report.micro_batch_rows = backend.model().rows;
  report.memory = backend.memory_table();
  report.step_seconds = step_seconds(backend, loader, repeats, report.loss);
  report.device_bytes = free_before - std::min(free_before, free_device_bytes(engine));
  report.update_seconds = backend.measure_update(std::max(3, repeats));
  report.micro_batch_tokens = std::int64_t{report.micro_batch_rows} * recipe.model.window;
  report.micro_seconds = (report.step_seconds - report.update_seconds) *
                         static_cast<double>(report.micro_batch_tokens) /
                         static_cast<double>(report.step_tokens);
  measure_program(backend.model(), std::max(3, repeats), engine, report);
  return report;
}

}  // namespace fairway::pipeline
