// fairway-bench-optim: time of one optimiser step of the 27 M-parameter model on a GPU, kind of work by kind.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <nlohmann/json.hpp>
#include <vector>

#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "fairway/ops/cuda_work.h"
#include "fairway/optim/training.h"
#include "fairway/tensor/buffer.h"
#include "fairway/tensor/cuda.h"

namespace fairway::bench {
namespace {

struct Options {
  int layers = 11, repeats = 50;
  bool f32 = false, json = false;
};

struct Model {
  optim::TrainedParameters parameters;
  std::int64_t elements = 0;
};

/// PR 518: width 512, 8 heads with 4 of keys and values, MLP 1536, bigram and value embeddings.
Model model_of(int layers) {
  Model m;
  const auto matrix = [&](std::int64_t rows, std::int64_t columns) {
    auto& list = m.parameters.matrices;
    list.push_back(
        {fmt::format("w{}", list.size()), {m.elements, m.elements + rows * columns}, rows, columns});
    m.elements += rows * columns;
  };
  const auto range = [&](std::vector<optim::ParamRange>& list, std::int64_t n) {
    list.push_back({fmt::format("r{}.{}", list.size(), n), {m.elements, m.elements + n}});
    m.elements += (n + 15) / 16 * 16;
  };
  for (int i = 0; i < layers; ++i) {
    matrix(512, 512), matrix(256, 512), matrix(256, 512), matrix(512, 512);
    matrix(1536, 512), matrix(512, 1536);
  }
  matrix(512, 128), matrix(256, 128);
  for (const std::int64_t n : {1024 * 512, 2048 * 128, 1024 * 128}) range(m.parameters.embeddings, n);
  for (int i = 0; i < layers; ++i)
    for (const std::int64_t n : {512, 512, 1024, 8}) range(m.parameters.scalars, n);
  range(m.parameters.scalars, 512 * (layers / 2)), range(m.parameters.scalars, 512);
  return m;
}

void fill(const tensor::Buffer& buffer, std::int64_t n, std::string_view purpose, double scale) {
  const base::Random random(1, purpose);
  std::vector<float> values(static_cast<std::size_t>(n));
  for (std::size_t i = 0; i < values.size(); ++i)
    values[i] = static_cast<float>(scale * (random.uniform(i) - 0.5));
  tensor::copy_bytes(buffer.device(), buffer.data(), {}, values.data(), values.size() * sizeof(float));
}

void run(const Options& o) {
  if (const auto missing = tensor::cuda_unavailable_reason(); !missing.empty())
    base::fail_input("this benchmark needs a GPU: {}", missing);
  const auto info = tensor::cuda_devices().front();
  ops::cuda::State state({tensor::DeviceKind::cuda, 0});
  const Model model = model_of(o.layers);
  const auto bytes = static_cast<std::size_t>(model.elements) * sizeof(float);
  tensor::Buffer values(state.device(), bytes), gradients(state.device(), bytes);
  fill(values, model.elements, "values", 0.1);
  fill(gradients, model.elements, "gradients", 0.01);
  const tensor::Meta meta{tensor::DType::f32, {model.elements}};
  optim::TrainingConfig config;
  config.ns_dtype = o.f32 ? tensor::DType::f32 : tensor::DType::bf16;
  config.embeddings = tensor::DType::bf16;
  const auto optimizer = optim::make_optimizer(
      optim::optimizer_config(config, model.parameters, {.ema_decay = 0.997, .swa = true}),
      values.view(0, meta), gradients.view(0, meta), nullptr, &state);

  ops::cuda::Recording recording(state, [&] { optimizer->enqueue(); });
  ops::cuda::Event start(true), stop(true);
  const auto milliseconds_of = [&](auto&& step) {
    for (int i = 0; i < 5; ++i) step();
    start.record(state);
    for (int i = 0; i < o.repeats; ++i) step();
    stop.record(state);
    return 1e3 * stop.seconds_since(start) / o.repeats;
  };
  std::int64_t s = 0;
  const auto prepare = [&] {
    optimizer->prepare(optim::step_values(config, 1, s++, optim::EmaStep::update));
  };
  const double direct = milliseconds_of([&] { prepare(), optimizer->enqueue(); });
  const double replayed = milliseconds_of([&] { prepare(), recording.replay(); });
  const auto kinds = optimizer->measure(o.repeats);
  if (o.json) {
    nlohmann::json all{{"gpu", info.name},
                       {"newton_schulz", o.f32 ? "f32" : "bf16"},
                       {"parameters", model.elements},
                       {"device_bytes", optimizer->bytes()},
                       {"direct_ms", direct},
                       {"replayed_ms", replayed}};
    for (const auto& k : kinds)
      all["kinds"].push_back(
          {{"name", k.name}, {"ms", k.milliseconds}, {"bytes", k.bytes}, {"flops", k.flops}});
    fmt::print("{}\n", all.dump(1));
    return;
  }
  fmt::print("{}, {:.1f} M parameters, Newton-Schulz in {}, {:.0f} MB of state and workspaces\n", info.name,
             static_cast<double>(model.elements) / 1e6, o.f32 ? "f32" : "bf16",
             static_cast<double>(optimizer->bytes()) / 1e6);
  fmt::print("step: {:.3f} ms launched kernel by kernel, {:.3f} ms replayed\n", direct, replayed);
  fmt::print("{:18} {:>8} {:>9} {:>9}\n", "kind", "ms", "GB/s", "TFLOP/s");
  for (const auto& k : kinds)
    fmt::print("{:18} {:8.3f} {:9.0f} {:9.1f}\n", k.name, k.milliseconds, k.bytes / k.milliseconds / 1e6,
               k.flops / k.milliseconds / 1e9);
}

}  // namespace
}  // namespace fairway::bench

int main(int argc, char** argv) {
  using namespace fairway;
  bench::Options options;
  CLI::App app{"Time of one optimiser step on a GPU"};
  app.add_option("--layers", options.layers, "layers of the model")->check(CLI::Range(1, 1000));
  app.add_option("--repeats", options.repeats, "steps to time")->check(CLI::Range(1, 100000));
  app.add_flag("--f32", options.f32, "Newton-Schulz in f32 instead of bf16");
  app.add_flag("--json", options.json, "print JSON");
  CLI11_PARSE(app, argc, argv);
  try {
    bench::run(options);
  } catch (const base::Error& e) {
    fmt::print(stderr, "fairway-bench-optim: {}\n", e.what());
    return e.kind() == base::ErrorKind::input ? 2 : 1;
  }
  return 0;
}
