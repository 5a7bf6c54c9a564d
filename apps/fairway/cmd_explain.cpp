// fairway explain: each program's steps with shapes, work and memory.

#include <fmt/format.h>

#include <algorithm>

#include "cli.h"
#include "fairway/base/text.h"
#include "fairway/pipeline/measure/explain.h"
#include "fairway/pipeline/measure/step_kinds.h"
#include "fairway/report/fit.h"
#include "fairway/report/table.h"

namespace fairway::app {
namespace {

using report::Align;
using report::Table;

std::string giga(double value) { return fmt::format("{:.3f}", value / 1e9); }
std::string mega(double value) { return fmt::format("{:.2f}", value / 1e6); }

Json program_json(const pipeline::Explanation::Program& program) {
  Json steps = Json::array();
  for (const auto& s : program.steps)
    steps.push_back({{"scope", s.scope},
                     {"op", s.op},
                     {"attributes", s.attributes},
                     {"inputs", s.inputs},
                     {"outputs", s.outputs},
                     {"backward", s.is_backward},
                     {"flops", s.cost.flops},
                     {"bytes", s.cost.bytes},
                     {"seconds", s.seconds}});
  Json passes = Json::array();
  for (const auto& note : program.passes)
    passes.push_back({{"pass", note.pass},
                      {"scope", note.scope},
                      {"fired", note.missed.empty()},
                      {"why_not", note.missed}});
  return {{"name", program.name},
          {"flops", program.cost.flops},
          {"bytes", program.cost.bytes},
          {"arena_bytes", program.arena_bytes},
          {"live_peak_bytes", program.live_peak_bytes},
          {"in_place", program.in_place},
          {"build_seconds", program.build_seconds},
          {"seconds", program.seconds},
          {"passes", passes},
          {"steps", steps}};
}

/// Where passes fired, and why they did not elsewhere: one line for each pass and reason.
std::string passes_text(const pipeline::Explanation::Program& program) {
  std::vector<std::pair<std::pair<std::string, std::string>, std::vector<std::string>>> lines;
  for (const auto& note : program.passes) {
    const std::pair key{note.pass, note.missed};
    auto found = std::ranges::find(lines, key, &decltype(lines)::value_type::first);
    if (found == lines.end()) found = lines.insert(lines.end(), {key, {}});
    found->second.push_back(note.scope);
  }
  std::string text;
  for (const auto& [key, scopes] : lines) {
    const auto where = scopes.size() == 1 ? "in " + scopes[0]
                                          : fmt::format("in {} places, {} to {}", scopes.size(),
                                                        scopes.front(), scopes.back());
    const auto what = key.second.empty() ? "fired" : "did not fire: " + key.second + ",";
    text += report::wrap(fmt::format("pass {} {} {}", key.first, what, where), report::output_width(stdout)) +
            "\n";
  }
  return text;
}

std::string title_of(const pipeline::Explanation::Program& program) {
  return fmt::format("Program {}: {} steps, {} GFLOP, {} MB moved, arena {}, built in {:.1f} ms",
                     program.name, program.steps.size(), giga(program.cost.flops), mega(program.cost.bytes),
                     base::human_bytes(program.arena_bytes), 1e3 * program.build_seconds);
}

std::string gflops(double seconds, double flops) {
  return seconds > 0 && flops > 0 ? fmt::format("{:.1f}", flops / seconds / 1e9) : "";
}

/// Kind by kind, as wide as the terminal.
std::string kinds_text(const pipeline::Explanation::Program& program, bool measured) {
  const auto width = report::output_width(stdout);
  Table table{report::wrap(title_of(program), width),
              {{"step"}, {"inputs"}, {"n", Align::right}, {"GFLOP", Align::right}},
              {},
              1};
  if (measured) {
    table.columns.push_back({"ms", Align::right});
    table.columns.push_back({"GFLOP/s", Align::right});
  } else {
    table.columns.push_back({"MB", Align::right});
  }
  const auto add = [&](const std::string& name, const std::string& inputs, std::size_t count, ops::Cost cost,
                       double seconds) {
    std::vector<std::string> row = {name, inputs, std::to_string(count), giga(cost.flops)};
    if (measured) {
      row.push_back(fmt::format("{:.3f}", 1e3 * seconds));
      row.push_back(gflops(seconds, cost.flops));
    } else {
      row.push_back(mega(cost.bytes));
    }
    table.add(std::move(row));
  };
  for (const auto& kind : pipeline::step_kinds(program.steps)) {
    const bool told = !kind.backward || kind.op.find("_backward") != std::string::npos;
    add(kind.op + (told ? "" : " (backward)"), report::short_shapes(kind.inputs), kind.steps.size(),
        kind.cost, kind.seconds);
  }
  add("all", "", program.steps.size(), program.cost, program.seconds);
  report::fit(table, width);
  return report::to_text(table);
}

/// Step by step.
std::string steps_text(const pipeline::Explanation::Program& program, bool measured) {
  Table table{title_of(program),
              {{"scope"}, {"step"}, {"inputs"}, {"outputs"}, {"GFLOP", Align::right}, {"MB", Align::right}},
              {},
              1};
  if (measured) {
    table.columns.push_back({"ms", Align::right});
    table.columns.push_back({"GFLOP/s", Align::right});
  }
  auto timing = [&](std::vector<std::string>& row, double seconds, double flops) {
    if (!measured) return;
    row.push_back(fmt::format("{:.3f}", 1e3 * seconds));
    row.push_back(gflops(seconds, flops));
  };
  for (const auto& s : program.steps) {
    std::vector<std::string> row = {s.scope,
                                    s.attributes.empty() ? s.op : s.op + " " + s.attributes,
                                    s.inputs,
                                    s.outputs,
                                    giga(s.cost.flops),
                                    mega(s.cost.bytes)};
    timing(row, s.seconds, s.cost.flops);
    table.add(std::move(row));
  }
  std::vector<std::string> total = {"all", "", "", "", giga(program.cost.flops), mega(program.cost.bytes)};
  timing(total, program.seconds, program.cost.flops);
  table.add(std::move(total));
  return report::to_text(table);
}

void explain(const std::string& recipe, const pipeline::RecipeOptions& options, bool measure, bool wide,
             Context& context) {
  const auto loaded = pipeline::load_recipe(recipe, options);
  const auto made = pipeline::explain(loaded.recipe, measure, context.engine());
  Json json = {{"recipe", loaded.recipe.name},
               {"parameters", made.parameters},
               {"micro_batch_rows", made.micro_batch_rows},
               {"programs", Json::array()},
               {"memory", Json::object()}};
  std::string text =
      fmt::format("{}: {} parameters, micro-batches of {} windows of {}\n\n", loaded.recipe.name,
                  base::with_commas(made.parameters), made.micro_batch_rows, loaded.recipe.model.window);
  for (const auto& program : made.programs) {
    json["programs"].push_back(program_json(program));
    text +=
        (wide ? steps_text(program, measure) : kinds_text(program, measure)) + passes_text(program) + "\n";
  }
  Table memory{"Memory of these programs (training adds the optimiser and the averages)",
               {{"what"}, {"bytes", Align::right}, {"", Align::right}},
               {},
               1};
  for (const auto& line : made.memory) {
    json["memory"][line.what] = line.bytes;
    memory.add(
        {line.what, base::with_commas(static_cast<std::int64_t>(line.bytes)), base::human_bytes(line.bytes)});
  }
  const auto sum = graph::total_bytes(made.memory);
  memory.add({"all", base::with_commas(static_cast<std::int64_t>(sum)), base::human_bytes(sum)});
  text += report::to_text(memory);
  if (!wide) text += "\nSteps of one kind are one line; --wide shows each step with all columns.\n";
  if (made.order) {
    json["order"] = order_json(*made.order);
    text += "\n" + pipeline::to_text(*made.order) + "\n";
  }
  context.print(json, text);
}

}  // namespace

void add_explain(CLI::App& app, Context& context, Action& action) {
  struct Arguments {
    std::string recipe = "demo";
    bool measure = false, wide = false;
    std::shared_ptr<pipeline::RecipeOptions> options = std::make_shared<pipeline::RecipeOptions>();
  };
  auto arguments = std::make_shared<Arguments>();
  auto* command =
      add_command(app, "explain", "Print a recipe's programs: steps, shapes, work, memory", context, action,
                  [arguments](Context& c) {
                    explain(arguments->recipe, *arguments->options, arguments->measure, arguments->wide, c);
                  });
  command
      ->add_option("recipe", arguments->recipe,
                   "A recipe file or the name of a built-in recipe (default: demo)")
      ->type_name("RECIPE");
  command->add_flag("--measure", arguments->measure, "Run each program and time its steps");
  command->add_flag("--wide", arguments->wide, "Each step with all columns, whatever the terminal's width");
  add_recipe_options(command, arguments->options);
}

}  // namespace fairway::app
