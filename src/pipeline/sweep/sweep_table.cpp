// What the runs of a sweep say together.

#include "sweep/sweep_table.h"

#include "fairway/base/text.h"
#include "fairway/pipeline/sweep/statistics.h"
#include "fairway/score/ledger.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>

namespace fairway::pipeline {
namespace {

using Json = nlohmann::ordered_json;
using report::Align;
using report::Table;

/// What stands at "a.b.c"; null where nothing does.
const Json* at(const Json& json, std::string_view path) {
  const Json* node = &json;
  while (node && !path.empty()) {
    const auto dot = std::min(path.find('.'), path.size());
    const std::string key(path.substr(0, dot));
    node = node->is_object() && node->contains(key) ? &(*node)[key] : nullptr;
    path.remove_prefix(std::min(dot + 1, path.size()));
  }
  return node;
}

std::optional<double> number_at(const Json& json, std::string_view path) {
  const auto* node = at(json, path);
  if (!node || !node->is_number()) return std::nullopt;
  const auto value = node->get<double>();
  return std::isfinite(value) ? std::optional(value) : std::nullopt;
}

std::vector<double> values_of(const std::vector<SweepCell>& cells, const std::string& variant,
                              std::optional<double> SweepCell::*member) {
  std::vector<double> values;
  for (const auto& cell : cells)
    if (cell.variant == variant && cell.*member) values.push_back(*(cell.*member));
  return values;
}

std::optional<double> mean_of(const std::vector<double>& values) {
  if (values.empty()) return std::nullopt;
  return mean(values);
}

/// Null for nothing, and for infinities, which JSON lacks.
Json json_of(const std::optional<double>& value) {
  return value && std::isfinite(*value) ? Json(*value) : Json(nullptr);
}

std::string text_of(const std::optional<double>& value, int decimals, bool sign = false) {
  if (!value) return "";
  return sign ? fmt::format("{:+.{}f}", *value, decimals) : fmt::format("{:.{}f}", *value, decimals);
}

const std::string& metric_of(const Sweep& sweep, const SweepVariant& variant) {
  return variant.metric.empty() ? sweep.metric : variant.metric;
}

std::string p_text(const std::optional<double>& p) {
  if (!p) return "";
  return *p > 0 && *p < 0.0001 ? fmt::format("{:.1e}", *p) : fmt::format("{:.4f}", *p);
}

constexpr std::string_view kInvalid = "not a code length: ";

/// The broken conditions' first words (C1, ..., bytes): their reasons have a table of their own.
std::string short_verdict(const std::string& verdict) {
  if (!verdict.starts_with(kInvalid)) return verdict;
  std::string conditions;
  for (int i = 0; i < score::condition_count; ++i) {
    const auto name = score::condition_name(static_cast<score::Condition>(i));
    if (verdict.find(fmt::format("{}: ", name)) == verdict.npos) continue;
    conditions += (conditions.empty() ? "" : ", ") + std::string(name.substr(0, name.find(' ')));
  }
  return fmt::format("breaks {}", conditions);
}

}  // namespace

void read_cell(const Sweep& sweep, const Json& result, SweepCell& cell) {
  const auto variant = std::ranges::find(sweep.variants, cell.variant, &SweepVariant::name);
  const auto& metric = variant == sweep.variants.end() ? sweep.metric : metric_of(sweep, *variant);
  cell.metric = number_at(result, metric);
  if (!cell.metric) {
    cell.error = fmt::format("its result has no number '{}' (the {}'s metric)", metric,
                             &metric == &sweep.metric ? "sweep" : "variant");
    return;
  }
  const auto dot = metric.rfind('.');
  const auto parent = dot == std::string::npos ? std::string() : metric.substr(0, dot + 1);
  cell.bits_per_byte = number_at(result, parent + "bits_per_byte");
  if (const auto* verdict = at(result, parent + "verdict"); verdict && verdict->is_string())
    cell.verdict = verdict->get<std::string>();
  cell.artifact_bytes = number_at(result, "artifact.challenge_bytes");
  const auto packed = number_at(result, "score.plain.loss");
  auto exported = number_at(result, "averaged.plain.loss");
  if (!exported) exported = number_at(result, "raw.plain.loss");
  if (packed && exported) cell.quantisation_gap = *packed - *exported;
}

std::vector<SweepRow> sweep_rows(const Sweep& sweep, const std::vector<SweepCell>& cells) {
  std::vector<SweepRow> rows;
  const auto baseline = values_of(cells, sweep.baseline, &SweepCell::metric);
  for (const auto& v : sweep.variants) {
    const auto values = values_of(cells, v.name, &SweepCell::metric);
    SweepRow row;
    row.variant = v.name;
    row.note = v.note;
    row.metric = metric_of(sweep, v);
    row.runs = values.size();
    row.mean = mean_of(values);
    row.deviation = standard_deviation(values);
    row.bits_per_byte = mean_of(values_of(cells, v.name, &SweepCell::bits_per_byte));
    row.quantisation_gap = mean_of(values_of(cells, v.name, &SweepCell::quantisation_gap));
    row.artifact_bytes = mean_of(values_of(cells, v.name, &SweepCell::artifact_bytes));
    bool code_length = !values.empty();
    row.verdict = values.empty() ? "" : "valid";
    for (const auto& cell : cells) {
      if (cell.variant != v.name || !cell.metric || cell.verdict == "valid") continue;
      if (row.verdict == "valid") row.verdict = cell.verdict.empty() ? "unknown" : cell.verdict;
      code_length = code_length && cell.verdict.starts_with("valid");
    }
    if (v.name != sweep.baseline && row.mean && !baseline.empty()) {
      row.difference = *row.mean - mean(baseline);
      if (const auto test = welch(values, baseline)) {
        row.t = test->t;
        row.p = test->p;
        // The published rule asks for both: lower by so much, and lower beyond chance.
        row.record = code_length && *row.difference <= -kRecordNats && test->p_less < kRecordP;
        row.record_p = welch(values, baseline, -kRecordNats)->p_less;
      }
    }
    rows.push_back(std::move(row));
  }
  return rows;
}

Json sweep_json(const Sweep& sweep, const SweepResult& result) {
  Json json = {{"name", sweep.name},
               {"description", sweep.description},
               {"source", sweep.source},
               {"base", sweep.base},
               {"metric", sweep.metric},
               {"baseline", sweep.baseline},
               {"seeds", sweep.seeds},
               {"failed", result.failed},
               {"record_rule", {{"nats", kRecordNats}, {"p", kRecordP}}},
               {"table", Json::array()},
               {"cells", Json::array()}};
  for (const auto& r : result.rows)
    json["table"].push_back({{"variant", r.variant},
                             {"note", r.note},
                             {"metric", r.metric},
                             {"runs", r.runs},
                             {"mean", json_of(r.mean)},
                             {"deviation", json_of(r.deviation)},
                             {"difference", json_of(r.difference)},
                             {"t", json_of(r.t)},
                             {"p", json_of(r.p)},
                             {"record_p", json_of(r.record_p)},
                             {"record", r.record},
                             {"bits_per_byte", json_of(r.bits_per_byte)},
                             {"quantisation_gap", json_of(r.quantisation_gap)},
                             {"artifact_bytes", json_of(r.artifact_bytes)},
                             {"verdict", r.verdict}});
  for (const auto& c : result.cells) {
    const char* state = !c.error.empty() ? "failed" : c.metric ? "finished" : "open";
    json["cells"].push_back({{"variant", c.variant},
                             {"seed", c.seed},
                             {"folder", c.folder.string()},
                             {"state", state},
                             {"skipped", c.was_finished},
                             {"error", c.error},
                             {"metric", json_of(c.metric)},
                             {"bits_per_byte", json_of(c.bits_per_byte)},
                             {"quantisation_gap", json_of(c.quantisation_gap)},
                             {"artifact_bytes", json_of(c.artifact_bytes)},
                             {"verdict", c.verdict}});
  }
  return json;
}

std::vector<Table> sweep_tables(const Sweep& sweep, const SweepResult& result) {
  Table table{
      fmt::format("{} ({} of each variant; differences to {})", sweep.name, sweep.metric, sweep.baseline),
      {{"variant"},
       {"runs", Align::right},
       {"mean", Align::right},
       {"std", Align::right},
       {"difference", Align::right},
       {"t", Align::right},
       {"p", Align::right},
       {"record"},
       {"bits/byte", Align::right},
       {"quant gap", Align::right},
       {"bytes", Align::right},
       {"verdict"},
       {"note"}},
      {},
      0};
  for (const auto& r : result.rows)
    table.add({r.variant, fmt::format("{}", r.runs), text_of(r.mean, 5), text_of(r.deviation, 5),
               text_of(r.difference, 5, true), text_of(r.t, 2, true), p_text(r.p), r.record ? "yes" : "",
               text_of(r.bits_per_byte, 5), text_of(r.quantisation_gap, 5, true),
               r.artifact_bytes ? base::with_commas(std::llround(*r.artifact_bytes)) : "",
               short_verdict(r.verdict), r.note});
  std::vector<Table> tables{std::move(table)};
  Table invalid{"Not a code length", {{"variant"}, {"why"}}, {}, 0};
  for (const auto& r : result.rows)
    if (r.verdict.starts_with(kInvalid)) invalid.add({r.variant, r.verdict.substr(kInvalid.size())});
  if (!invalid.rows.empty()) tables.push_back(std::move(invalid));
  Table failed{"Failed runs", {{"variant"}, {"seed", Align::right}, {"why"}}, {}, 0};
  for (const auto& c : result.cells)
    if (!c.error.empty()) failed.add({c.variant, fmt::format("{}", c.seed), c.error});
  if (!failed.rows.empty()) tables.push_back(std::move(failed));
  return tables;
}

std::string sweep_text(const Sweep& sweep, const SweepResult& result) {
  std::string text;
  for (const auto& table : sweep_tables(sweep, result))
    text += (text.empty() ? "" : "\n") + report::to_text(table);
  return text + fmt::format(
                    "\nrecord: lower than the baseline by at least {} nats, Welch's one-sided p < {}, a code "
                    "length\n",
                    kRecordNats, kRecordP);
}

}  // namespace fairway::pipeline
