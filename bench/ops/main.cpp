// fairway-bench-ops: achieved GFLOP/s and GB/s of every operator, beside what this machine can do.

#include <fmt/format.h>

#include <CLI/CLI.hpp>
#include <algorithm>
#include <nlohmann/json.hpp>

#include "cases.h"
#include "fairway/base/error.h"
#include "fairway/base/thread_pool.h"
#include "fairway/ops/cuda.h"
#include "fairway/ops/registry.h"
#include "fairway/tensor/cuda.h"

namespace fairway::bench {
namespace {

struct Options {
  std::string only;
  std::vector<int> threads;
  base::Isa isa = base::best_isa();
  double budget = 0.2;
  ops::harness::Clock clock = ops::harness::Clock::wall;
  bool bf16 = false, json = false, gpu = false;
};

/// The rates that the machine reaches at best with some threads.
struct Roofline {
  double gflops = 0, gbytes = 0;
};

struct Line {
  std::string model, name;
  int threads = 0;
  ops::harness::Timing timing;
  double roofline = 0;  ///< share of the speed that the roofline allows
};

Roofline measure_roofline(const Options& o, int threads) {
  auto product = peak_product();
  if (o.bf16) product.products = tensor::DType::bf16;
  return {threads * ops::harness::measure(product, 1, o.isa, o.budget, o.clock)[0].gflops,
          ops::harness::measure(peak_copy(), threads, o.isa, o.budget, o.clock)[0].gbytes};
}

void print_line(const Line& l) {
  fmt::print("{:10} {:28} {:30} {:2} {:10.1f} {:8.1f} {:8.1f} {:5.0f} %\n", l.model, l.name, l.timing.op,
             l.threads, l.timing.seconds * 1e6, l.timing.gflops, l.timing.gbytes, l.roofline * 100);
}

void run_cases(const Options& o, const std::string& model, const std::vector<ops::harness::OpCase>& cases,
               int threads, const Roofline& best, std::vector<Line>& lines) {
  for (ops::harness::OpCase c : cases) {
    if (c.name.find(o.only) == std::string::npos && c.op->name().find(o.only) == std::string_view::npos)
      continue;
    if (!std::ranges::binary_search(ops::cpu_kernel_names(), c.op->name())) continue;  // a GPU's
    if (o.bf16) c.products = tensor::DType::bf16;
    for (const auto& timing : ops::harness::measure(c, threads, o.isa, o.budget, o.clock)) {
      lines.push_back({model, c.name, threads, timing,
                       std::max(timing.gflops / best.gflops, timing.gbytes / best.gbytes)});
      if (!o.json) print_line(lines.back());
    }
  }
}

nlohmann::json to_json(const Line& l) {
  return {{"model", l.model},
          {"case", l.name},
          {"op", l.timing.op},
          {"threads", l.threads},
          {"seconds", l.timing.seconds},
          {"gflops", l.timing.gflops},
          {"gbytes", l.timing.gbytes},
          {"roofline", l.roofline}};
}

/// Speed on the first GPU, in fp32 and in bf16, beside a large copy and a large product on the same GPU.
void run_on_gpu(const Options& o) {
  if (const auto missing = ops::harness::gpu_missing(); !missing.empty())
    base::fail_input("--gpu: {}", missing);
  const auto info = tensor::cuda_devices().front();
  std::vector<Line> lines;
  for (const bool narrow : {true, false}) {
    const auto form = [&](const ops::harness::OpCase& c) {
      return narrow ? ops::harness::bf16_form(c) : std::optional(c);
    };
    const auto best_of = [&](const ops::harness::OpCase& c) {
      return ops::harness::measure_cuda(*form(c), o.budget)[0];
    };
    const Roofline best{best_of(large_product()).gflops, best_of(large_copy()).gbytes};
    const std::string dtype = narrow ? "bf16" : "f32";
    if (!o.json)
      fmt::print(
          "{} {}: at best {:.0f} GFLOP/s, {:.1f} GB/s\n{:10} {:28} {:30} {:>2} {:>10} {:>8} {:>8} {:>7}\n",
          info.name, dtype, best.gflops, best.gbytes, "model", "case", "operator", "", "us", "GFLOP/s",
          "GB/s", "roofline");
    const ModelSizes m = gpu_model(narrow ? 48 : 8);
    auto cases = training_cases(m);
    for (auto& c : decode_cases(m)) cases.push_back(std::move(c));
    for (const auto& c : cases) {
      const auto wanted = form(c);
      if (!wanted ||
          (c.name.find(o.only) == std::string::npos && c.op->name().find(o.only) == std::string_view::npos))
        continue;
      for (const auto& timing : ops::harness::measure_cuda(*wanted, o.budget)) {
        lines.push_back({m.name + " " + dtype, c.name, 0, timing,
                         std::max(timing.gflops / best.gflops, timing.gbytes / best.gbytes)});
        if (!o.json) print_line(lines.back());
      }
    }
  }
  if (!o.json) return;
  nlohmann::json all{{"gpu", info.name}, {"cublaslt", ops::cuda::gemm_library_version()}};
  for (const Line& l : lines) all["results"].push_back(to_json(l));
  fmt::print("{}\n", all.dump(1));
}

void run(const Options& o) {
  ops::pin_isa(o.isa);
  std::vector<Line> lines;
  if (!o.json)
    fmt::print("{} {}, {} products\n{:10} {:28} {:30} {:>2} {:>10} {:>8} {:>8} {:>7}\n", base::cpu_model(),
               base::isa_name(o.isa), o.bf16 ? "bf16" : "f32", "model", "case", "operator", "n", "us",
               "GFLOP/s", "GB/s", "roofline");
  for (int threads : o.threads) {
    const Roofline best = measure_roofline(o, threads);
    if (!o.json)
      fmt::print("{} threads: at best {:.0f} GFLOP/s, {:.1f} GB/s\n", threads, best.gflops, best.gbytes);
    for (const ModelSizes& m : {full_model(), demo_large(), demo_small()}) {
      run_cases(o, m.name, training_cases(m), threads, best, lines);
      run_cases(o, m.name, decode_cases(m), threads, best, lines);
    }
  }
  if (!o.json) return;
  nlohmann::json all{
      {"cpu", base::cpu_model()}, {"isa", base::isa_name(o.isa)}, {"products", o.bf16 ? "bf16" : "f32"}};
  for (const Line& l : lines) all["results"].push_back(to_json(l));
  fmt::print("{}\n", all.dump(1));
}

}  // namespace
}  // namespace fairway::bench

int main(int argc, char** argv) {
  using namespace fairway;
  bench::Options options;
  options.threads = {1, base::available_cores()};
  std::string isa;
  CLI::App app{"Speed of the operators at the shapes of the models"};
  app.add_option("--only", options.only, "cases or operators whose name contains this");
  app.add_option("--threads", options.threads, "numbers of threads to measure with")
      ->check(CLI::PositiveNumber);
  app.add_option("--isa", isa, "instruction set: scalar, avx2, avx512, avx512_bf16");
  app.add_option("--budget", options.budget, "seconds for each operator")->check(CLI::PositiveNumber);
  app.add_flag("--bf16", options.bf16, "round the operands of products to bf16");
  app.add_flag_callback(
      "--cpu-time", [&] { options.clock = ops::harness::Clock::processor; },
      "processor time instead of wall time, for a machine busy with other work");
  app.add_flag("--gpu", options.gpu, "measure on the first GPU, bf16 and f32");
  app.add_flag("--json", options.json, "print JSON");
  CLI11_PARSE(app, argc, argv);
  try {
    if (!isa.empty()) {
      const auto parsed = base::parse_isa(isa);
      if (!parsed || *parsed > base::best_isa())
        base::fail_input("--isa {}: this machine has scalar to {}", isa, base::isa_name(base::best_isa()));
      options.isa = *parsed;
    }
    if (options.gpu)
      bench::run_on_gpu(options);
    else
      bench::run(options);
  } catch (const base::Error& e) {
    fmt::print(stderr, "fairway-bench-ops: {}\n", e.what());
    return e.kind() == base::ErrorKind::input ? 2 : 1;
  }
  return 0;
}
