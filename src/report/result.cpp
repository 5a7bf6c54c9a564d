#include "fairway/report/result.h"

#include <fmt/format.h>

#include <algorithm>
#include <cmath>
#include <optional>

#include "fairway/base/file.h"
#include "fairway/base/text.h"

namespace fairway::report {
namespace {

using Json = nlohmann::ordered_json;

/// The value under a path of keys, or null.
const Json& at(const Json& json, std::initializer_list<const char*> path) {
  static const Json null;
  const Json* here = &json;
  for (const char* key : path) {
    if (!here->is_object()) return null;
    const auto found = here->find(key);
    if (found == here->end()) return null;
    here = &*found;
  }
  return *here;
}

std::string text_of(const Json& value) { return value.is_string() ? value.get<std::string>() : ""; }
std::string decimals(const Json& value, int digits) {
  return value.is_number() ? fmt::format("{:.{}f}", value.get<double>(), digits) : "-";
}
std::string count(const Json& value) {
  return value.is_number() ? base::with_commas(value.get<std::int64_t>()) : "-";
}

/// Calls use(label, score) for every score that the result holds.
template <class F>
void each_score(const Json& result, F use) {
  const std::pair<const char*, const char*> sets[] = {{"raw", "raw weights"},
                                                      {"averaged", "averaged weights"},
                                                      {"score", "artifact"},
                                                      {"adapted", "adapted artifact"}};
  for (const auto& [key, name] : sets) {
    for (const auto& [kind, score] : at(result, {key}).items())
      if (score.is_object()) use(fmt::format("{}, {}", name, kind), score);
  }
  for (const char* kind : {"plain", "sliding"})
    if (const auto& score = at(result, {kind}); score.is_object()) use(kind, score);
}

std::string windows_of(const Json& score) {
  const auto& window = at(score, {"window"});
  const auto& stride = at(score, {"stride"});
  if (!window.is_number() || !stride.is_number()) return "";
  if (score.contains("by_documents")) return fmt::format("{} by documents", count(window));
  return window == stride ? fmt::format("{} side by side", count(window))
                          : fmt::format("{} every {}", count(window), count(stride));
}

/// The lowest bits per byte that is a valid score of the artifact, as it is or adapting to what it has read.
std::optional<double> best_valid(const Json& result) {
  std::optional<double> best;
  for (const char* set : {"score", "adapted"}) {
    for (const auto& [kind, score] : at(result, {set}).items()) {
      const auto& bits = at(score, {"bits_per_byte"});
      if (bits.is_number() && text_of(at(score, {"verdict"})).starts_with("valid"))
        best = std::min(best.value_or(bits.get<double>()), bits.get<double>());
    }
  }
  return best;
}

std::string heading(const Json& result) {
  std::vector<std::string> parts;
  if (auto name = text_of(at(result, {"build"})); !name.empty()) parts.push_back(name);
  if (auto device = text_of(at(result, {"device"})); !device.empty()) parts.push_back(device);
  if (auto isa = text_of(at(result, {"isa"})); !isa.empty()) parts.push_back(isa);
  if (at(result, {"seed"}).is_number()) parts.push_back(fmt::format("seed {}", at(result, {"seed"}).dump()));
  std::string out;
  for (const auto& part : parts) out += (out.empty() ? "" : " · ") + part;
  return out;
}

std::vector<Headline> headlines(const Json& result) {
  using Tone = Headline::Tone;
  std::vector<Headline> out;
  if (auto best = best_valid(result))
    out.push_back({fmt::format("{:.4f}", *best), "bits per byte, held-out text", Tone::good});
  const auto& artifact = at(result, {"artifact"});
  if (const auto& bytes = at(artifact, {"challenge_bytes"}); bytes.is_number())
    out.push_back({count(bytes), "bytes of weights and code",
                   at(artifact, {"fits"}) == false ? Tone::bad : Tone::plain});
  const auto& train = at(result, {"train"});
  if (train.is_object()) {
    out.push_back({count(at(train, {"parameters"})), "parameters", Tone::plain});
    if (at(train, {"seconds"}).is_number())
      out.push_back({base::human_seconds(at(train, {"seconds"}).get<double>()),
                     fmt::format("training, {} steps", count(at(train, {"steps"}))), Tone::plain});
    std::string of_roofline;
    if (const auto& part = at(train, {"roofline"}); part.is_number())
      of_roofline = fmt::format(", {:.0f} % of the roofline", 100 * part.get<double>());
    if (at(train, {"tokens_per_second"}).is_number())
      out.push_back({base::with_commas(std::llround(at(train, {"tokens_per_second"}).get<double>())),
                     "tokens per second" + of_roofline, Tone::plain});
  }
  return out;
}

Table memory_table(const Json& result) {
  Table table{"Memory", {{"what"}, {"bytes", Align::right}}, {}, 0};
  for (const auto& [what, bytes] : at(result, {"memory"}).items())
    if (bytes.is_number()) table.add({what, base::human_bytes(bytes.get<std::uint64_t>())});
  if (const auto& peak = at(result, {"peak_memory_bytes"}); peak.is_number()) {
    table.add({"peak of the process", base::human_bytes(peak.get<std::uint64_t>())});
    table.total_rows = 1;
  }
  return table;
}

/// What makes the scores say less than they seem to.
Table warning_table(const Json& result) {
  Table table{"Warnings", {{"about the text"}}, {}, 0};
  for (const auto& note : at(result, {"data", "notes"})) table.add({text_of(note)});
  return table;
}

std::vector<Table> result_tables(const Json& result) {
  std::vector<Table> all = {score_table(result),
                            compressor_table(result),
                            ledger_table(result.contains("parts") ? result : at(result, {"artifact"})),
                            budget_table(result),
                            memory_table(result),
                            stage_table(result)};
  std::erase_if(all, [](const Table& table) { return table.rows.empty(); });
  return all;
}

}  // namespace

Table score_table(const Json& result) {
  Table table{"Scores",
              {{"weights, windows"},
               {"bits per byte", Align::right},
               {"loss", Align::right},
               {"tokens", Align::right},
               {"bytes", Align::right},
               {"windows of"},
               {"byte rule"},
               {"verdict"}},
              {},
              0};
  each_score(result, [&](const std::string& label, const Json& score) {
    table.add({label, decimals(at(score, {"bits_per_byte"}), 4), decimals(at(score, {"loss"}), 4),
               count(at(score, {"tokens"})), count(at(score, {"bytes"})), windows_of(score),
               text_of(at(score, {"rule"})), text_of(at(score, {"verdict"}))});
  });
  return table;
}

Table ledger_table(const Json& ledger) {
  Table table{"Size",
              {{"part"},
               {"stored as"},
               {"tensors", Align::right},
               {"raw bytes", Align::right},
               {"bytes", Align::right},
               {"coded as"}},
              {},
              0};
  const auto& parts = at(ledger, {"parts"});
  if (!parts.is_array()) return table;
  for (const auto& part : parts) {
    const auto& tensors = at(part, {"tensors"});
    table.add({text_of(at(part, {"name"})), text_of(at(part, {"kind"})), tensors == 0 ? "" : count(tensors),
               count(at(part, {"raw_bytes"})), count(at(part, {"stored_bytes"})),
               text_of(at(part, {"coding"}))});
  }
  auto total = [&](const char* name, const char* key) {
    if (!at(ledger, {key}).is_number()) return;
    table.add({name, "", "", "", count(at(ledger, {key})), ""});
    ++table.total_rows;
  };
  total("file", "file_bytes");
  total("code (xz -9e of the sources needed, stripped)", "code_bytes");
  total("code without its CUDA part", "code_bytes_cpu");
  total("challenge bytes (weights and code)", "challenge_bytes");
  total("self-contained bytes (and tokenizer)", "self_contained_bytes");
  total("weights and published script", "published_bytes");
  total("limit", "limit");
  return table;
}

Table budget_table(const Json& result) {
  Table table{
      "Budget",
      {{"budget"}, {"used", Align::right}, {"allowed", Align::right}, {"forecast", Align::right}, {""}},
      {},
      0};
  for (const auto& [key, entry] : at(result, {"budget"}).items()) {
    if (!at(entry, {"allowed"}).is_number()) continue;
    const auto shown = [&entry = entry](const char* name) {
      const auto& value = at(entry, {name});
      return value.is_number() ? base::with_commas(std::llround(value.get<double>())) : std::string();
    };
    table.add(
        {key, shown("used"), shown("allowed"), shown("forecast"), at(entry, {"ok"}) == true ? "" : "over"});
  }
  return table;
}

Table compressor_table(const Json& result) {
  Table table{"The same text by other means",
              {{"compressor"}, {"bits per byte", Align::right}, {"bytes", Align::right}, {"note"}},
              {},
              0};
  const auto& list = at(result, {"compressors"});
  if (!list.is_array()) return table;
  for (const auto& entry : list)
    table.add({text_of(at(entry, {"name"})), decimals(at(entry, {"bits_per_byte"}), 4),
               count(at(entry, {"bytes"})), text_of(at(entry, {"note"}))});
  if (auto best = best_valid(result)) {
    table.add({"this model", fmt::format("{:.4f}", *best), "", "its artifact besides"});
    table.total_rows = 1;
  }
  return table;
}

Table stage_table(const Json& result) {
  Table table{"Time", {{"stage"}, {"seconds", Align::right}}, {}, 0};
  const auto& stages = at(result, {"stages"});
  if (!stages.is_array()) return table;
  double sum = 0;
  for (const auto& entry : stages) {
    const auto& seconds = at(entry, {"seconds"});
    if (!seconds.is_number()) continue;
    sum += seconds.get<double>();
    table.add({text_of(at(entry, {"stage"})), decimals(seconds, 1)});
  }
  table.add({"all", fmt::format("{:.1f}", sum)});
  table.total_rows = 1;
  return table;
}

namespace {

/// What the verdicts note, each note once.
std::vector<std::string> score_notes(const Json& result) {
  std::vector<std::string> notes;
  each_score(result, [&](const std::string& label, const Json& score) {
    for (const auto& note : at(score, {"notes"})) {
      const auto said = [&](const std::string& other) { return other.ends_with(": " + text_of(note)); };
      if (std::ranges::none_of(notes, said)) notes.push_back(label + ": " + text_of(note));
    }
  });
  return notes;
}

}  // namespace

std::string result_text(const Json& result) {
  std::string out;
  for (const auto& row : warning_table(result).rows) out += fmt::format("Warning: {}\n", row.front());
  for (const auto& table : result_tables(result)) out += (out.empty() ? "" : "\n") + to_text(table);
  for (const auto& note : score_notes(result)) out += fmt::format("\nNote, {}.\n", note);
  if (const auto& normal = at(result, {"normalisation"}); normal.is_object()) {
    out += fmt::format("\nThe tokenizer's normalisation changes {} of {} documents ({} of {} bytes).\n",
                       count(at(normal, {"changed_documents"})), count(at(normal, {"documents"})),
                       count(at(normal, {"changed_bytes"})), count(at(normal, {"bytes"})));
  }
  if (const auto& sample = at(result, {"sample"}); sample.is_object())
    out += fmt::format("\nSample\n{}{}\n", text_of(at(sample, {"prompt"})), text_of(at(sample, {"text"})));
  return out;
}

HtmlReport run_report(const Json& result, const LossCurve& train, const LossCurve& validation,
                      const std::string& recipe) {
  HtmlReport report;
  report.title = text_of(at(result, {"name"}));
  if (report.title.empty()) report.title = "Run";
  report.subtitle = heading(result);
  report.headlines = headlines(result);
  if (!train.empty()) {
    Chart chart{"Loss", "step", "nats per token", {{"training", train}}};
    if (!validation.empty()) chart.curves.push_back({"validation", validation});
    report.charts.push_back(std::move(chart));
  }
  report.tables = result_tables(result);
  if (auto warnings = warning_table(result); !warnings.rows.empty())
    report.tables.insert(report.tables.begin(), std::move(warnings));
  report.sample_prompt = text_of(at(result, {"sample", "prompt"}));
  report.sample = text_of(at(result, {"sample", "text"}));
  if (!recipe.empty()) report.appendices.emplace_back("Recipe", recipe);
  report.appendices.emplace_back("result.json", result.dump(2, ' ', false, Json::error_handler_t::replace));
  return report;
}

void write_html(const std::filesystem::path& path, const Json& result, const LossCurve& train,
                const LossCurve& validation, const std::string& recipe) {
  base::write_file(path, to_html(run_report(result, train, validation, recipe)));
}

}  // namespace fairway::report
