#include "fairway/pipeline/train/training_model.h"

#include "fairway/base/error.h"
#include "fairway/base/text.h"
#include "fairway/exec/micro_batch.h"
#include "fairway/pipeline/stages/scoring.h"
#include "fairway/pipeline/train/train_setup.h"
#include "fairway/tensor/cuda.h"

namespace fairway::pipeline {

namespace {

exec::ProgramSpec training_spec(const Recipe& r, int rows) {
  exec::ProgramSpec spec{.rows = rows, .z_loss = static_cast<float>(r.train.z_loss)};
  if (r.train.packed) spec.rows = 1, spec.length = rows * r.model.window;
  return spec;
}

/// All memory of a training run on a GPU, and of the scorer beside it: weights are scored in between and in
/// the end.
std::size_t needed_bytes(const Recipe& r, const exec::Engine& engine, int rows) {
  constexpr std::size_t reserve = 512ull << 20;  // what libraries and recordings take beside our plan
  const auto values = static_cast<std::size_t>(model::make_layout(r.model).padded_elements()) * sizeof(float);
  // Values, gradients, compute weights, Muon's momentum, its workspaces in bf16, the average, the ranks' sum.
  const auto ranks = clips_by_rank(r) ? values : 0;
  const auto parameters = values * 2 + values / 2 + values + values * 2 + values + ranks;
  return exec::planned_bytes(r.model, engine, r.train.products, training_spec(r, rows)) + parameters +
         scoring_bytes(evaluated(r), engine) + reserve;
}

int micro_batch_rows(const Recipe& r, const exec::Engine& engine) {
  const auto rows = windows_to_divide(r);
  const bool chosen = r.train.micro_batch > 0;
  if (chosen && rows % r.train.micro_batch)
    base::fail_input("train.micro_batch = {} does not divide the {}'s {} windows; choose a divisor",
                     r.train.micro_batch, r.train.packed || clips_by_rank(r) ? "slice" : "step", rows);
  const int wanted = chosen ? r.train.micro_batch
                            : exec::rows_for(exec::full_rate_tokens(engine.device()), r.model.window, rows);
  if (!engine.device().is_cuda()) return exec::largest_divisor(rows, wanted, [](int) { return true; });
  const auto room = tensor::cuda_device(engine.device()).free_bytes;
  const int best =
      exec::largest_divisor(rows, wanted, [&](int n) { return needed_bytes(r, engine, n) <= room; });
  if (best == 0)
    base::fail_input(
        "{}: {} free, {} needed for micro-batches of one window; use --device cpu or free memory",
        engine.device().str(), base::human_bytes(room), base::human_bytes(needed_bytes(r, engine, 1)));
  if (chosen && best < wanted)
    base::fail_input("train.micro_batch = {}: needs {} on {}, {} are free; at most {} windows fit", wanted,
                     base::human_bytes(needed_bytes(r, engine, wanted)), engine.device().str(),
                     base::human_bytes(room), best);
  return best;
}

}  // namespace

TrainingModel make_training_model(const Recipe& r, const exec::Engine& engine) {
  TrainingModel model;
  model.rows = micro_batch_rows(r, engine);
  exec::RunnerOptions options;
  options.products = r.train.products;
  options.trains = true;
  options.micro_batches = r.train.batch_tokens / r.model.window / model.rows;
  if (r.qat.any() && !r.qat.inert) options.quantise = qat_levels(r);
  model.runner = std::make_unique<exec::ModelRunner>(r.model, engine, options);
  auto spec = training_spec(r, model.rows);
  model.program = &model.runner->add(spec);
  if (r.train.loop_start > 0 && r.model.executions() > r.model.layers) {
    spec.looped = false;
    model.early = &model.runner->add(spec);
  }
  return model;
}

}  // namespace fairway::pipeline
