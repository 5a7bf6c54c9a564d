// fairway bench: how fast a recipe trains here, beside what the machine can do.

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "cli.h"
#include "fairway/base/error.h"
#include "fairway/base/file.h"
#include "fairway/base/path.h"
#include "fairway/base/text.h"
#include "fairway/ops/cuda_gemm.h"
#include "fairway/pipeline/measure/bench.h"
#include "fairway/report/fit.h"
#include "fairway/report/table.h"

namespace fairway::app {
namespace {

using report::Align;
using report::Table;

std::string milliseconds(double seconds) { return fmt::format("{:.3f}", 1e3 * seconds); }
std::string percent(double part, double whole) {
  return whole > 0 ? fmt::format("{:.0f}", 100 * part / whole) : "";
}

Json line_json(const pipeline::BenchLine& l) {
  return {{"op", l.op},
          {"inputs", l.shapes},
          {"backward", l.backward},
          {"count", l.count},
          {"flops", l.cost.flops},
          {"bytes", l.cost.bytes},
          {"seconds", l.seconds},
          {"floor_seconds", l.floor_seconds}};
}

Json report_json(const pipeline::BenchReport& r) {
  Json lines = Json::array(), memory = Json::object();
  for (const auto& l : r.lines) lines.push_back(line_json(l));
  for (const auto& m : r.memory) memory[m.what] = m.bytes;
  Json json = {
      {"device", r.device},
      {"machine",
       {{"flops_per_second", r.machine.flops_per_second}, {"bytes_per_second", r.machine.bytes_per_second}}},
      {"micro_batch_rows", r.micro_batch_rows},
      {"micro_batch_tokens", r.micro_batch_tokens},
      {"step_tokens", r.step_tokens},
      {"step_seconds", r.step_seconds},
      {"roofline_seconds", r.roofline_seconds},
      {"micro_seconds", r.micro_seconds},
      {"update_seconds", r.update_seconds},
      {"micro_floor_seconds", r.micro_floor_seconds},
      {"micro_steps_seconds", r.micro_steps_seconds},
      {"tokens_per_second", static_cast<double>(r.step_tokens) / r.step_seconds},
      {"start_seconds", r.start_seconds},
      {"loss", r.loss},
      {"memory", memory},
      {"device_bytes", r.device_bytes},
      {"steps", lines}};
  if (r.order) json["order"] = order_json(*r.order);
  return json;
}

std::string name_of(const pipeline::BenchLine& l) {
  return l.backward && l.op.find("_backward") == std::string::npos ? l.op + " (backward)" : l.op;
}

/// Without the columns that fit no terminal of usual width.
std::string narrow_text(const pipeline::BenchReport& r) {
  Table table{"One micro-batch, kind by kind (--wide shows more)",
              {{"step"},
               {"inputs"},
               {"n", Align::right},
               {"ms", Align::right},
               {"% of floor", Align::right},
               {"TFLOP/s", Align::right}},
              {},
              1};
  const auto rate = [](double flops, double seconds) {
    return flops > 0 ? fmt::format("{:.1f}", flops / seconds / 1e12) : "";
  };
  for (const auto& l : r.lines)
    table.add({name_of(l), report::short_shapes(l.shapes), std::to_string(l.count), milliseconds(l.seconds),
               percent(l.floor_seconds, l.seconds), rate(l.cost.flops, l.seconds)});
  table.add({"all", "", "", milliseconds(r.micro_steps_seconds),
             percent(r.micro_floor_seconds, r.micro_steps_seconds),
             rate(r.micro_cost.flops, r.micro_steps_seconds)});
  report::fit(table, report::output_width(stdout));
  return report::to_text(table);
}

std::string wide_text(const pipeline::BenchReport& r) {
  Table table{"One micro-batch, kind by kind",
              {{"step"},
               {"inputs"},
               {"n", Align::right},
               {"ms", Align::right},
               {"floor ms", Align::right},
               {"% of floor", Align::right},
               {"TFLOP/s", Align::right},
               {"GB/s", Align::right}},
              {},
              1};
  for (const auto& l : r.lines)
    table.add({name_of(l), l.shapes, std::to_string(l.count), milliseconds(l.seconds),
               milliseconds(l.floor_seconds), percent(l.floor_seconds, l.seconds),
               l.cost.flops > 0 ? fmt::format("{:.1f}", l.cost.flops / l.seconds / 1e12) : "",
               fmt::format("{:.0f}", l.cost.bytes / l.seconds / 1e9)});
  table.add({"all", "", "", milliseconds(r.micro_steps_seconds), milliseconds(r.micro_floor_seconds),
             percent(r.micro_floor_seconds, r.micro_steps_seconds),
             fmt::format("{:.1f}", r.micro_cost.flops / r.micro_steps_seconds / 1e12),
             fmt::format("{:.0f}", r.micro_cost.bytes / r.micro_steps_seconds / 1e9)});
  return report::to_text(table);
}

/// What would be won most by bringing a kind of step to its floor.
std::string gaps_text(const pipeline::BenchReport& r) {
  auto lines = r.lines;
  std::ranges::stable_sort(lines, std::greater{}, [](const auto& l) { return l.seconds - l.floor_seconds; });
  std::string text = "Largest gaps to the floor: ";
  for (std::size_t i = 0; i < std::min<std::size_t>(5, lines.size()); ++i)
    text += fmt::format("{}{} {:.2f} ms", i ? ", " : "", name_of(lines[i]),
                        1e3 * (lines[i].seconds - lines[i].floor_seconds));
  return report::wrap(text, report::output_width(stdout)) + "\n";
}

std::string summary_text(const pipeline::Recipe& recipe, const pipeline::BenchReport& r) {
  return fmt::format(
      "{} on {}\n"
      "machine   {:.1f} TFLOP/s (large product), {:.0f} GB/s (large copy)\n"
      "step      {} ms for {} tokens: {} tokens/s{}\n"
      "          micro-batch of {} tokens {} ms ({} % of the floor of {} ms), update {} ms\n"
      "start     {:.2f} s to the first step done, data not counted\n"
      "memory    {} planned{}\n",
      recipe.name, r.device, r.machine.flops_per_second / 1e12, r.machine.bytes_per_second / 1e9,
      milliseconds(r.step_seconds), base::with_commas(r.step_tokens),
      base::with_commas(static_cast<std::int64_t>(static_cast<double>(r.step_tokens) / r.step_seconds)),
      r.roofline_seconds > 0
          ? fmt::format(" ({} % of the roofline)", percent(r.roofline_seconds, r.step_seconds))
          : "",
      base::with_commas(r.micro_batch_tokens), milliseconds(r.micro_seconds),
      percent(r.micro_floor_seconds, r.micro_seconds), milliseconds(r.micro_floor_seconds),
      milliseconds(r.update_seconds), r.start_seconds, base::human_bytes(graph::total_bytes(r.memory)),
      r.device_bytes ? fmt::format(", {} taken on the GPU", base::human_bytes(r.device_bytes)) : "");
}

void tune_products(const std::string& file, exec::Engine& engine) {
  if (!engine.cuda())
    base::fail_input("--tune-products {}: products are tuned on a GPU; use --device cuda", file);
  std::string lines;
  for (const auto& r : ops::cuda::tune_gemms(*engine.cuda())) {
    if (r.changed) lines += r.line + "\n";
    engine.progress().note(fmt::format("{} x {} x {} x {}: {:.3f} ms, best of {} {:.3f} ms", r.batches, r.m,
                                       r.n, r.k, 1e3 * r.first_seconds, r.tried, 1e3 * r.best_seconds));
  }
  base::write_file(file, lines);
}

}  // namespace

void add_bench(CLI::App& app, Context& context, Action& action) {
  struct Arguments {
    std::string recipe = "demo", tune;
    int repeats = 5;
    bool wide = false;
    std::shared_ptr<pipeline::RecipeOptions> options = std::make_shared<pipeline::RecipeOptions>();
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command =
      add_command(app, "bench", "Time a recipe's training step and its parts beside the machine's limits",
                  context, action, [arguments](Context& c) {
                    const auto recipe = pipeline::load_recipe(arguments->recipe, *arguments->options).recipe;
                    base::check_output("--tune-products", arguments->tune,
                                       std::array<std::filesystem::path, 1>{arguments->recipe});
                    const auto made = pipeline::bench(recipe, arguments->repeats, c.engine());
                    if (!arguments->tune.empty()) tune_products(arguments->tune, c.engine());
                    const auto lines = arguments->wide ? wide_text(made) : narrow_text(made);
                    c.print(report_json(made), lines + "\n" + gaps_text(made) +
                                                   (made.order ? pipeline::to_text(*made.order) + "\n" : "") +
                                                   "\n" + summary_text(recipe, made));
                  });
  command
      ->add_option("recipe", arguments->recipe,
                   "A recipe file or the name of a built-in recipe (default: demo)")
      ->type_name("RECIPE");
  command->add_flag("--wide", arguments->wide, "All columns, whatever the terminal's width");
  command->add_option("--repeats", arguments->repeats, "Runs of each measurement (default: 5)");
  command
      ->add_option(
          "--tune-products", arguments->tune,
          "On a GPU: time all algorithms for the products used and write the table of the best to FILE")
      ->type_name("FILE");
  add_recipe_options(command, arguments->options);
}

}  // namespace fairway::app
