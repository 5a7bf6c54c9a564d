// fairway-bench-train: one training step (forward, backward, optimiser) of a recipe's model, its parts timed.
//
// With --serve it says "ready" and then runs one step for each line it reads, so that bench/peers/compare.py
// can alternate it with other programs; otherwise it prints medians.

#include <fmt/format.h>
#include <sys/resource.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <iostream>
#include <nlohmann/json.hpp>

#include "fairway/base/clock.h"
#include "fairway/base/error.h"
#include "fairway/base/random.h"
#include "fairway/exec/micro_batch.h"
#include "fairway/exec/model_runner.h"
#include "fairway/pipeline/train/train_setup.h"
#include "fairway/pipeline/train/trainer.h"

namespace fairway::bench {
namespace {

using Json = nlohmann::ordered_json;

struct Options {
  std::string recipe;
  std::vector<std::string> set;
  std::string products = "f32", isa;
  int threads = base::available_cores();
  int rows = 0, warmup = 2, repeats = 5;
  bool serve = false, json = false;
};

double processor_ms() {
  rusage u{};
  getrusage(RUSAGE_SELF, &u);
  const auto ms = [](const timeval& t) {
    return 1e3 * static_cast<double>(t.tv_sec) + 1e-3 * static_cast<double>(t.tv_usec);
  };
  return ms(u.ru_utime) + ms(u.ru_stime);
}

/// Milliseconds of one step.
struct Times {
  double model = 0;  ///< gradients zeroed, forward, backward
  double optimizer = 0;
  double step = 0;
  double cpu = 0;  ///< processor time of all threads
  double loss = 0;
};

/// The recipe with fp32 tables, and Newton-Schulz in the precision of the products: what PyTorch is compared
/// in.
pipeline::Recipe recipe_of(const Options& o) {
  pipeline::RecipeOptions options;
  options.set = {"optim.tables=\"f32\"", fmt::format("optim.ns_precision=\"{}\"", o.products),
                 fmt::format("train.products=\"{}\"", o.products)};
  options.set.insert(options.set.end(), o.set.begin(), o.set.end());
  return pipeline::load_recipe(o.recipe, options).recipe;
}

exec::ExecutionOptions execution_of(const Options& o) {
  exec::ExecutionOptions e;
  e.threads = o.threads;
  if (o.isa.empty()) return e;
  e.isa = base::parse_isa(o.isa);
  if (!e.isa) base::fail_input("--isa {}: use scalar, avx2, avx512 or avx512_bf16", o.isa);
  return e;
}

/// A model with its optimiser; run() makes one step on fresh random tokens.
class Step {
 public:
  explicit Step(const Options& o)
      : recipe_(recipe_of(o)),
        training_(recipe_.optim),
        engine_(execution_of(o)),
        rows_(o.rows > 0 ? o.rows
                         : exec::rows_for(exec::full_rate_tokens(engine_.device()), recipe_.model.window)),
        runner_(recipe_.model, engine_, {.products = recipe_.train.products, .trains = true}),
        program_(runner_.add({.rows = rows_})) {
    runner_.allocate();
    auto& store = runner_.weights();
    model::initialise(store, static_cast<std::uint64_t>(recipe_.seed), engine_.pool());
    const auto config = optim::optimizer_config(training_, pipeline::trained_parameters(store.layout()));
    optimizer_ =
        optim::make_optimizer(config, store.flat_values(), store.flat_gradients(), &engine_.pool(), nullptr);
  }

  Times run() {
    random_tokens();
    const double processor = processor_ms();
    base::Stopwatch watch;
    runner_.zero_gradients();
    program_.run();
    Times t;
    t.loss = static_cast<double>(program_.view("loss").as<float>()[0]);
    t.model = 1e3 * watch.seconds();
    const auto gradient = optimizer_->step(optim::step_values(training_, 1, steps_++));
    t.step = 1e3 * watch.seconds();
    t.optimizer = t.step - t.model;
    t.cpu = processor_ms() - processor;
    if (!gradient.finite) base::fail("a gradient is not finite");
    return t;
  }

  int rows() const { return rows_; }
  std::int64_t parameters() const { return runner_.weights().layout().count(); }
  double flops() const { return program_.cost().flops; }

 private:
  void random_tokens() {
    auto tokens = program_.view("tokens").span<std::int32_t>();
    auto targets = program_.view("targets").span<std::int32_t>();
    const auto window = static_cast<std::size_t>(recipe_.model.window);
    const auto vocabulary = static_cast<std::uint64_t>(recipe_.model.vocab_size);
    const base::Random random(1337, fmt::format("bench/{}", steps_));
    for (std::size_t i = 0; i < tokens.size(); ++i) {
      const std::size_t row = i / window, at = i + row;  // each window has one token more than inputs
      tokens[i] = static_cast<std::int32_t>(random.below(at, vocabulary));
      targets[i] = static_cast<std::int32_t>(random.below(at + 1, vocabulary));
    }
    std::ranges::fill(program_.view("weights").span<float>(), 1.0f / static_cast<float>(tokens.size()));
  }

  const pipeline::Recipe recipe_;
  const optim::TrainingConfig training_;
  exec::Engine engine_;
  const int rows_;
  exec::ModelRunner runner_;
  graph::Program& program_;
  std::unique_ptr<optim::Optimizer> optimizer_;
  std::int64_t steps_ = 0;
};

Json to_json(const Times& t) {
  return {{"model_ms", t.model},
          {"optimizer_ms", t.optimizer},
          {"step_ms", t.step},
          {"cpu_ms", t.cpu},
          {"loss", t.loss}};
}

double median(std::vector<Times> runs, double Times::*part) {
  std::ranges::sort(runs, {}, part);
  const auto n = runs.size();
  return (runs[(n - 1) / 2].*part + runs[n / 2].*part) / 2;
}

Times medians(const std::vector<Times>& runs) {
  return {median(runs, &Times::model), median(runs, &Times::optimizer), median(runs, &Times::step),
          median(runs, &Times::cpu), runs.back().loss};
}

void serve(const Options& o) {
  const auto base_bytes = base::peak_memory_bytes();
  Step step(o);
  for (int i = 0; i < o.warmup; ++i) step.run();
  const Json ready = {
      {"ready", true}, {"parameters", step.parameters()}, {"rows", step.rows()}, {"base_bytes", base_bytes}};
  std::cout << ready.dump() << std::endl;
  for (std::string line; std::getline(std::cin, line);) {
    Json result = to_json(step.run());
    result["peak_bytes"] = base::peak_memory_bytes();
    std::cout << result.dump() << std::endl;
  }
}

void medians_of(const Options& o) {
  Step step(o);
  for (int i = 0; i < o.warmup; ++i) step.run();
  std::vector<Times> runs;
  for (int i = 0; i < o.repeats; ++i) runs.push_back(step.run());
  const Times t = medians(runs);
  const auto peak = base::peak_memory_bytes();
  if (o.json) {
    Json result = to_json(t);
    result.update(Json{{"products", o.products}, {"threads", o.threads}, {"peak_bytes", peak}});
    fmt::print("{}\n", result.dump());
    return;
  }
  fmt::print("{}, {} products, {} threads, {} parameters, {} windows, median of {}\n", base::cpu_model(),
             o.products, o.threads, step.parameters(), step.rows(), o.repeats);
  fmt::print("{:>9} {:>9} {:>9} {:>9} {:>8} {:>9}\n", "model ms", "optimiser", "step ms", "cpu ms", "GFLOP/s",
             "peak MiB");
  fmt::print("{:9.1f} {:9.1f} {:9.1f} {:9.1f} {:8.1f} {:9}\n", t.model, t.optimizer, t.step, t.cpu,
             step.flops() / t.model / 1e6, peak >> 20);
}

}  // namespace
}  // namespace fairway::bench

int main(int argc, char** argv) {
  using namespace fairway;
  bench::Options options;
  CLI::App app{"Speed of one training step: forward, backward, optimiser"};
  app.add_option("recipe", options.recipe, "a recipe file or the name of a built-in recipe")->required();
  app.add_option("--set", options.set, "KEY=VALUE, as for fairway run");
  app.add_option("--products", options.products, "precision of products and of Newton-Schulz")
      ->check(CLI::IsMember({"f32", "bf16"}));
  app.add_option("--isa", options.isa, "instruction set: scalar, avx2, avx512, avx512_bf16");
  app.add_option("--threads", options.threads, "number of threads")->check(CLI::PositiveNumber);
  app.add_option("--rows", options.rows, "windows per step; 0: 4,096 tokens")->check(CLI::NonNegativeNumber);
  app.add_option("--warmup", options.warmup, "steps before the first timed one")
      ->check(CLI::NonNegativeNumber);
  app.add_option("--repeats", options.repeats, "timed steps; the median counts")->check(CLI::PositiveNumber);
  app.add_flag("--serve", options.serve, "one step for each line of standard input");
  app.add_flag("--json", options.json, "print JSON");
  CLI11_PARSE(app, argc, argv);
  try {
    if (options.serve)
      bench::serve(options);
    else
      bench::medians_of(options);
  } catch (const base::Error& e) {
    fmt::print(stderr, "fairway-bench-train: {}\n", e.what());
    return e.kind() == base::ErrorKind::input ? 2 : 1;
  }
  return 0;
}
