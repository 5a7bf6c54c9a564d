#include "fairway/pipeline/train/train_setup.h"

#include "fairway/base/error.h"
#include "fairway/exec/model_runner.h"
#include "fairway/pipeline/stages/model_file.h"
#include "fairway/pipeline/stages/packing.h"
#include "fairway/text/tokenizer.h"

#include <algorithm>
#include <cmath>

namespace fairway::pipeline {

optim::LrSchedule lr_schedule(const Recipe& r) {
  const auto& t = r.train;
  return {t.schedule,          t.steps,   (t.seconds - t.reserve_seconds) * 1000.0, t.warmdown_steps,
          t.warmdown_fraction, t.lr_floor};
}

optim::StepValues step_values(const Recipe& r, const StepPlan& plan) {
  const auto ema = plan.average == AverageAction::set   ? optim::EmaStep::start
                   : plan.average == AverageAction::add ? optim::EmaStep::update
                                                        : optim::EmaStep::none;
  const auto schedule = lr_schedule(r);
  const double scale = optim::lr_scale(schedule, plan.progress) * plan.lr_warmup;
  return optim::step_values(r.optim, scale, plan.progress.step, ema,
                            optim::part_done(schedule, plan.progress));
}

data::BatchShape batch_shape(const Recipe& r) {
  return {r.train.batch_tokens, r.model.window, r.data.slices, r.data.order,
          static_cast<std::uint64_t>(r.seed)};
}

void target_weights(const Recipe& r, std::span<float> weights) {
  const auto window = static_cast<std::size_t>(r.model.window),
             covered = static_cast<std::size_t>(r.model.memory_tokens);
  const auto counted = r.train.batch_tokens / r.model.window * (r.model.window - r.model.memory_tokens);
  const float each = 1.0f / static_cast<float>(counted);
  for (std::size_t i = 0; i < weights.size(); ++i) weights[i] = i % window < covered ? 0.0f : each;
}

optim::TrainedParameters trained_parameters(const graph::ParameterLayout& layout) {
  optim::TrainedParameters all;
  for (const auto& p : layout.parameters()) {
    optim::ParamRange range{.name = p.name, .range = p.range()};
    if (p.group == graph::Group::embedding) all.embeddings.push_back(range);
    if (p.group == graph::Group::scalar) all.scalars.push_back(range);
    if (p.group != graph::Group::matrix) continue;
    range.rows = p.shape[0];
    range.columns = p.shape[1];
    all.matrices.push_back(range);
  }
  return all;
}

optim::OptimizerConfig optimizer_config(const Recipe& r, const graph::ParameterLayout& layout) {
  optim::Averages averages;
  if (r.average.kind == Average::ema) averages.ema_decay = r.average.decay;
  averages.ema_storage = r.average.dtype;
  averages.swa = r.average.kind == Average::swa;
  averages.squares = guided_bits(r);
  return optim::optimizer_config(r.optim, trained_parameters(layout), averages,
                                 static_cast<int>(r.data.slices));
}

std::optional<optim::Average> average_of(const Recipe& r) {
  if (r.average.kind == Average::ema) return optim::Average::ema;
  if (r.average.kind == Average::swa) return optim::Average::swa;
  return {};
}

std::int64_t average_count(const Recipe& r, optim::Optimizer& optimizer) {
  const auto average = average_of(r);
  return average ? optimizer.average_count(*average) : 0;
}

std::optional<std::vector<float>> read_average(const Recipe& r, optim::Optimizer& optimizer,
                                               const graph::ParameterLayout& layout) {
  if (average_count(r, optimizer) == 0) return {};
  std::vector<float> flat(static_cast<std::size_t>(layout.padded_elements()));
  optimizer.read_average(*average_of(r), flat);
  round_tables(r, layout, flat);
  return flat;
}

void round_tables(const Recipe& r, const graph::ParameterLayout& layout, std::span<float> flat) {
  if (r.optim.embeddings != tensor::DType::bf16) return;
  for (const auto& p : trained_parameters(layout).embeddings)
    for (float& v : p.range.of(flat)) v = tensor::round_to_bf16(v);
}

std::vector<float> fused_row(std::span<const float> space, std::span<const float> marker) {
  base::check(space.size() == marker.size(), "rows of {} and {}", space.size(), marker.size());
  std::vector<float> row(space.size());
  double norm = 0, wanted = 0;
  for (std::size_t i = 0; i < row.size(); ++i) {
    row[i] = 0.4f * space[i] + 0.6f * marker[i];
    norm += double{row[i]} * row[i], wanted += double{marker[i]} * marker[i];
  }
  if (norm > 0)
    for (float& v : row) v *= static_cast<float>(std::sqrt(wanted / norm));
  return row;
}

namespace {

void start_fused_rows(const Recipe& r, graph::ParameterStore& store) {
  if (!r.data.fuse_markers || r.data.tokenizer.empty()) return;
  const auto tokenizer = text::Tokenizer::load(r.data.tokenizer).with_fused_markers();
  const auto* fusion = tokenizer.marker_fusion();
  if (!fusion || tokenizer.vocab_size() > r.model.vocab_size)
    return;  // one that is trained fused has no pairs
  const auto table = store.value("tok_emb.weight").span<float>();
  const auto row = [&, width = static_cast<std::size_t>(r.model.width)](std::int32_t id) {
    return table.subspan(static_cast<std::size_t>(id) * width, width);
  };
  for (const auto& pair : fusion->pairs)
    std::ranges::copy(fused_row(row(fusion->space), row(pair.marker)), row(pair.donor).begin());
}

}  // namespace

void initial_weights(const Recipe& r, graph::ParameterStore& store, base::ThreadPool& pool) {
  if (store.device().is_cuda()) {
    graph::ParameterStore host(store.layout(), {}, false);
    initial_weights(r, host, pool);
    return exec::write_weights(store, host.flat_values().span<float>());
  }
  model::initialise(store, static_cast<std::uint64_t>(r.seed), pool);
  start_fused_rows(r, store);
  if (!r.train.init.empty()) load_safetensors(store, r.train.init);
  round_tables(r, store.layout(), store.flat_values().span<float>());
}

graph::QuantLevels qat_levels(const Recipe& r) {
  return [qat = r.qat](const graph::Parameter& p) {
    const int bits = p.role == graph::Role::attention ? qat.attention
                     : p.role == graph::Role::mlp     ? qat.mlp
                                                      : qat.other;
    return bits == 0 ? 0 : (1 << (bits - 1)) - 1;
  };
}

}  // namespace fairway::pipeline
